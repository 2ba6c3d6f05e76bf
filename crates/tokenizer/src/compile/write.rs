//! The parts put together into a table's bytes.

use super::added::Tries;
use super::bpe::Bpe;
use super::pages;
use super::pipeline::Pipeline;
use crate::table::{CHECKED_FROM, FLAG_NFC, HEADER, MAGIC, SECTIONS, Section, VERSION};

/// Sections begin at cache lines.
const ALIGN: usize = 64;

pub(super) fn assemble(pipeline: &Pipeline, model: &Bpe, added: &Tries) -> Vec<u8> {
    let mut sections: Vec<&[u8]> = vec![&[]; SECTIONS];
    let meta: Vec<u8> = [pipeline.flags | model.flags, model.longest, pipeline.stages.len() as u32]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let word = if added.words { pages::of_class(r"\w") } else { Vec::new() };
    let nfc = if pipeline.has(FLAG_NFC) { pages::of_nfc() } else { Vec::new() };
    for (section, content) in [
        (Section::Meta, meta.as_slice()),
        (Section::Bytes, &model.bytes),
        (Section::Short, &model.short),
        (Section::Long, &model.long),
        (Section::Pool, &model.pool),
        (Section::Merges, &model.merges),
        (Section::Merged, &model.merged),
        (Section::Filter, &model.filter),
        (Section::Pairs, &model.pairs),
        (Section::AddedRaw, &added.raw),
        (Section::AddedNormalized, &added.normalized),
        (Section::Word, &word),
        (Section::Nfc, &nfc),
        (Section::Prepend, pipeline.prepend.as_bytes()),
    ] {
        sections[section as usize] = content;
    }
    for (k, stage) in pipeline.stages.iter().enumerate() {
        sections[Section::Stages as usize + 2 * k] = &stage.classes;
        sections[Section::Stages as usize + 2 * k + 1] = &stage.transitions;
    }
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((SECTIONS as u32).to_le_bytes());
    out.extend([0; 8]);
    out.resize(HEADER + 8 * SECTIONS, 0);
    for (i, content) in sections.iter().enumerate() {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let entry = HEADER + 8 * i;
        let offset = (out.len() as u32).to_le_bytes();
        out[entry..entry + 4].copy_from_slice(&offset);
        out[entry + 4..entry + 8].copy_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(content);
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&out[CHECKED_FROM..]);
    out[16..24].copy_from_slice(&sum.to_le_bytes());
    out
}
