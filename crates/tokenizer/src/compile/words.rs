//! The shortcut for words of ASCII letters, read off an automaton (see `word`).

use super::automaton::Classes;
use crate::split::START;
use crate::word::{ANY_CASE, END, LETTER, MAP, NONE, OPENER, SMALL};

impl Classes {
    /// Which letters have the shortcut, and the map of bytes.
    pub(super) fn words(&self) -> (u32, [u8; MAP]) {
        let any = |byte: u8| byte.is_ascii_alphabetic();
        let small = |byte: u8| byte.is_ascii_lowercase();
        self.words_of(any)
            .map(|map| (ANY_CASE, map))
            .or_else(|| self.words_of(small).map(|map| (SMALL, map)))
            .unwrap_or((NONE, [0; MAP]))
    }

    fn words_of(&self, is_letter: impl Fn(u8) -> bool) -> Option<[u8; MAP]> {
        let start = usize::from(START);
        let word = self.next(start, b'a');
        let letters: Vec<u8> = (0..128).filter(|byte| is_letter(*byte)).collect();
        let leads_there = |from: usize| letters.iter().all(|byte| self.next(from, *byte) == word);
        // 1: the pattern itself accepts, not its white-space tail.
        if self.accepts[word] != 1 || !leads_there(start) || !leads_there(word) {
            return None;
        }
        let mut map = [0; MAP];
        for byte in 0..128u8 {
            let behind = self.next(start, byte);
            map[usize::from(byte)] = match () {
                () if is_letter(byte) => LETTER,
                () if behind != 0 && leads_there(behind) => OPENER,
                () => 0,
            } | if self.next(word, byte) == 0 { END } else { 0 };
        }
        Some(map)
    }
}
