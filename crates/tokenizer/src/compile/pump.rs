//! Whether an automaton may read the same text over and over.
//!
//! A match is only known to have ended when the automaton dies, which can be far behind:
//! under `a*b|a`, each `a` of a long run reads all that follow. Trained models' patterns
//! do not do that; one that does would let a client's text hold up an Envoy worker, and
//! is refused. Tried rather than proven: from every state, runs of every class and of
//! every two classes, long enough for a square to show.

use super::automaton::Classes;

const RUN: usize = 200;
/// Steps per character that no sound pattern needs: the prefix is read once by its own
/// match, once behind an earlier start, and a few times where a tail is given back.
const MOST: usize = 16;

impl Classes {
    pub(super) fn is_quadratic(&self) -> bool {
        let classes = self.columns.len();
        self.prefixes().iter().any(|prefix| {
            (0..classes).any(|a| {
                (0..classes).any(|b| {
                    let mut text = prefix.clone();
                    for _ in 0..RUN / 2 {
                        text.extend([a, b]);
                    }
                    self.steps(&text) > MOST * text.len()
                })
            })
        })
    }

    /// A shortest way from the start to each state.
    fn prefixes(&self) -> Vec<Vec<usize>> {
        let mut prefixes = vec![None; self.accepts.len()];
        let mut queue = std::collections::VecDeque::from([1]);
        if let Some(start) = prefixes.get_mut(1) {
            *start = Some(Vec::new());
        }
        while let Some(state) = queue.pop_front() {
            for (class, column) in self.columns.iter().enumerate() {
                let to = column[state] as usize;
                if to != 0 && prefixes[to].is_none() {
                    let mut prefix = prefixes[state].clone().unwrap_or_default();
                    prefix.push(class);
                    prefixes[to] = Some(prefix);
                    queue.push_back(to);
                }
            }
        }
        prefixes.into_iter().flatten().collect()
    }

    /// Steps of the automaton over a text of classes, cut as the encoder cuts it.
    fn steps(&self, text: &[usize]) -> usize {
        let mut steps = 0;
        let mut from = 0;
        while from < text.len() {
            let (mut state, mut last, mut kind) = (1, from, 0);
            for (at, class) in text.iter().enumerate().skip(from) {
                state = self.columns[*class][state] as usize;
                steps += 1;
                if state == 0 {
                    break;
                }
                if self.accepts[state] != 0 {
                    (last, kind) = (at + 1, self.accepts[state]);
                }
            }
            if kind == 2 && last < text.len() && last > from + 1 {
                last -= 1;
            }
            from = last.max(from + 1);
        }
        steps
    }
}
