//! Compiling a table, and proving it against the library.

use super::{LoadError, ModelFolder};
use crate::Encode;
use warmpath_tokenizer::{Encoder, compile, verify};

/// Texts on which tokenizers are known to part: scripts, runs of white space and
/// punctuation, code, emoji, combining marks, digits, contractions, control bytes.
const CORPUS: &str = include_str!("corpus.txt");
/// Separates the texts of [`CORPUS`].
const SEPARATOR: &str = "\n----\n";

pub(super) fn table(folder: &ModelFolder) -> Result<Vec<u8>, LoadError> {
    let json = folder.tokenizer.to_string(false).map_err(unusable)?;
    let encoder = Encoder::new(compile(json.as_bytes()).map_err(unusable)?);
    let library = folder.encoder();
    // A text that the library can not encode has no ids, which no table agrees with.
    let reference = |text: &str| {
        let mut ids = Vec::new();
        library.encode(text, &mut ids).map_or(Vec::new(), |()| ids)
    };
    verify(&encoder, &texts(folder), reference).map_err(unusable)?;
    Ok(encoder.table().as_bytes().to_vec())
}

fn unusable(error: impl ToString) -> LoadError {
    LoadError::Table(error.to_string())
}

fn texts(folder: &ModelFolder) -> Vec<String> {
    let mut texts: Vec<String> = CORPUS.split(SEPARATOR).map(str::to_owned).collect();
    texts.push(CORPUS.to_owned());
    texts.push(CORPUS.replace('\n', "\r\n"));
    for template in folder.spec.templates.values() {
        texts.push(template.source.clone());
    }
    for run in [" ", "\n", "\t", "  \n", "a", "0", "=", "é", "漢", "\u{200d}", "ab "] {
        for length in [1, 2, 3, 4, 7, 16, 61, 300] {
            texts.push(run.repeat(length));
            texts.push(format!("x{}y", run.repeat(length)));
        }
    }
    texts.extend(every_script());
    let mut added: Vec<_> = folder.tokenizer.get_added_tokens_decoder().into_values().collect();
    added.sort_by(|a, b| a.content.cmp(&b.content));
    for token in added.iter().map(|token| &token.content) {
        for text in [
            token.clone(),
            format!("{token}{token}"),
            format!("a {token} b"),
            format!("a{token}b"),
            format!(" \n{token}\n c"),
            format!("x{}", token.get(..token.len().saturating_sub(1)).unwrap_or("")),
        ] {
            texts.push(text);
        }
    }
    texts
}

/// Most characters, a block to a text, each beside letters and beside itself.
fn every_script() -> impl Iterator<Item = String> {
    // Of ideographs, private use and unassigned planes a sample stands for all.
    let sampled = |block: &u32| match block {
        0x35..0xa0 | 0xe0..0xf8 => block.is_multiple_of(8),
        0x200..0xe00 => block.is_multiple_of(32),
        0xe02..0x1100 => block.is_multiple_of(128),
        _ => true,
    };
    (0..0x1100u32).filter(sampled).map(|block| {
        let chars = (block * 256..(block + 1) * 256).filter_map(char::from_u32);
        chars.flat_map(|char| ['a', char, ' ', char, 'b', char, char, '\n']).collect()
    })
}
