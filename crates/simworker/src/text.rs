//! The model's tokenizer, and what a model without weights has to say.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use hashbrown::HashMap;
use warmpath_prompt::{Encode, LibraryEncoder, Model, ModelFolder, Refusal, Request};

/// What answers are made of.
const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are \
    this have from or had an they which one you were all her she there would their we him been has \
    when who will no more if out so up said what its about than into them can only other time new \
    some could these two may first then do any like my now over such our man me even most made \
    after also did many off before must well back through years where much your way down should \
    because long each just state those people too mr how little good world make very year still \
    see work life own day here old high part great last us use must water house place right small \
    found went say school once hand under night left while never again might same another know \
    thought always something put";

/// Fewest usable words; with fewer the answers of different prompts would soon be equal.
const ENOUGH: usize = 16;

/// The tokenizer of the engine and a vocabulary for its answers.
///
/// A word qualifies if it is one token where it stands, so an answer sent back
/// in the next turn of a conversation has the ids that were sampled, and the
/// blocks that the engine filled while answering are found again. Random ids
/// were rejected for that: decoded and encoded again they become other ids.
pub(crate) struct Text {
    model: Model,
    starts: Vec<u32>,
    words: Vec<u32>,
    pieces: HashMap<u32, String>,
    end: Option<u32>,
}

/// An answer, and why it ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// Sampled ids; the last may be the model's end token.
    pub(crate) ids: Vec<u32>,
    /// Whether it ends by itself rather than at the limit.
    pub(crate) complete: bool,
}

/// How long an answer may and must be, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) max: usize,
    pub(crate) min: usize,
    /// Go on to `max` whatever the model would do.
    pub(crate) ignore_end: bool,
}

impl Text {
    /// Reads a model's folder.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Text> {
        let named = || format!("--model-path {}", folder.display());
        let files = ModelFolder::load(folder).with_context(named)?;
        let encoder = files.encoder();
        let (starts, words, pieces) = vocabulary(&encoder);
        ensure!(
            starts.len().min(words.len()) >= ENOUGH,
            "{}: its tokenizer has single tokens for {} common English words only, and answers are \
             made of {ENOUGH} or more; choose another model",
            named(),
            starts.len().min(words.len()),
        );
        let end = end_token(folder);
        let model = Model::new(files.spec.clone(), Box::new(encoder)).with_context(named)?;
        Ok(Text { model, starts, words, pieces, end })
    }

    /// Token ids of every prompt of a request, away from the threads that keep time.
    pub(crate) async fn tokenize(
        self: &Arc<Text>,
        request: Request,
    ) -> anyhow::Result<Result<Vec<Vec<u32>>, Refusal>> {
        let text = self.clone();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let work = move || {
            let mut prompts = text.model.tokenize(&request, unix)?;
            if prompts.cut.is_some() {
                // In the place of what it can not see, as many tokens as a small picture has.
                prompts.ids.iter_mut().for_each(|ids| ids.extend([0; 64]));
            }
            Ok(prompts.ids)
        };
        Ok(tokio::task::spawn_blocking(work).await?)
    }

    /// The answer to a prompt: always the same for the same prompt, choice and seed.
    pub(crate) fn answer(&self, prompt: &[u32], choice: u64, seed: u64, length: Length) -> Answer {
        let digest = warmpath_blocks::token_digest(prompt);
        let root = warmpath_blocks::sequence_hash(digest ^ seed, choice);
        let roll = |n: usize| warmpath_blocks::sequence_hash(root, n as u64) as usize;
        // Between a short sentence and a paragraph.
        let natural = (4 + roll(0) % 60).max(length.min);
        let complete = !length.ignore_end && self.end.is_some() && natural < length.max;
        let words = if complete { natural } else { length.max };
        let word = |n: usize| {
            let list = if n == 0 { &self.starts } else { &self.words };
            list[roll(n + 1) % list.len()]
        };
        let ids = (0..words).map(word).chain(self.end.filter(|_| complete)).collect();
        Answer { ids, complete }
    }

    /// The text of a token of an answer; the end token has none.
    pub(crate) fn piece(&self, id: u32) -> &str {
        self.pieces.get(&id).map_or("", String::as_str)
    }
}

/// Ids of starts and words that are single tokens, and their texts.
fn vocabulary(encoder: &LibraryEncoder) -> (Vec<u32>, Vec<u32>, HashMap<u32, String>) {
    let encode = |text: &str| {
        let mut ids = Vec::new();
        encoder.encode(text, &mut ids).ok().map(|()| ids)
    };
    let mut pieces = HashMap::new();
    let mut starts = Vec::new();
    for start in WORDS.split_whitespace() {
        if let Some(&[id]) = encode(start).as_deref() {
            starts.push(id);
            pieces.insert(id, start.to_owned());
        }
    }
    let mut words = Vec::new();
    let before = starts.first().map(|id| pieces[id].clone()).unwrap_or_default();
    for word in WORDS.split_whitespace() {
        let Some(ids) = encode(&format!("{before} {word}")) else { continue };
        if let [start, id] = ids[..]
            && starts.first() == Some(&start)
            && !pieces.contains_key(&id)
        {
            words.push(id);
            pieces.insert(id, format!(" {word}"));
        }
    }
    (starts, words, pieces)
}

/// The id that ends an answer, from the folder's generation_config.json or config.json.
fn end_token(folder: &Path) -> Option<u32> {
    ["generation_config.json", "config.json"].iter().find_map(|name| {
        let file = std::fs::read(folder.join(name)).ok()?;
        let config: serde_json::Value = serde_json::from_slice(&file).ok()?;
        let ids = config.get("eos_token_id")?;
        let id = ids.get(0).unwrap_or(ids).as_u64()?;
        u32::try_from(id).ok()
    })
}
