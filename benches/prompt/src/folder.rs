//! The folder that the measuring processes read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use warmpath_prompt::{ChatTemplate, ContentFormat, ModelFolder, ModelSpec};

use crate::bodies::{Bodies, Chat, bodies, template};
use crate::texts;

/// Where the repository is, which has texts and a template.
pub(crate) fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// What making it found out.
pub(crate) struct Made {
    pub(crate) compile_ms: f64,
    pub(crate) table_mb: Option<f64>,
    /// Why there is no table.
    pub(crate) refused: Option<String>,
}

/// Writes tokenizer, table, texts and bodies to `folder`.
pub(crate) fn make(folder: &Path, tokenizer: &Path) -> Result<Made> {
    let json = tokenizer.join("tokenizer.json");
    let json = std::fs::read(&json).with_context(|| format!("can not read {}", json.display()))?;
    std::fs::write(folder.join("tokenizer.json"), &json)?;
    let start = std::time::Instant::now();
    let table = warmpath_tokenizer::compile(&json);
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let (table_mb, refused) = match table {
        Ok(table) => {
            let table = table.as_bytes();
            std::fs::write(folder.join("table"), table)?;
            (Some(table.len() as f64 / 1e6), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };

    let kinds = texts::kinds(&repository());
    let of = |name| kinds.iter().find(|(kind, _)| *kind == name).map_or("", |(_, text)| text);
    write(&folder.join("texts"), &kinds)?;
    write(&folder.join("hard"), &texts::hard(of("prose")))?;

    std::fs::write(folder.join("spec.json"), serde_json::to_vec(&spec(tokenizer)?)?)?;
    let folder = folder.join("bodies");
    std::fs::create_dir_all(&folder)?;
    let Bodies { chats, long } = bodies(of("chat"));
    let mut all = vec![("long".to_owned(), long)];
    for Chat { kind, first, second } in chats {
        all.push((format!("first {kind}"), first));
        all.push((format!("second {kind}"), second));
    }
    for (name, body) in all {
        std::fs::write(folder.join(name.trim_end()).with_extension("json"), body)?;
    }
    Ok(Made { compile_ms, table_mb, refused })
}

/// The folder's own templates, or one of the repository's.
fn spec(tokenizer: &Path) -> Result<ModelSpec> {
    let mut spec = ModelFolder::load(tokenizer).map(|folder| folder.spec).unwrap_or_default();
    if spec.templates.is_empty() {
        let json = std::fs::read_to_string(tokenizer.join("tokenizer.json"))?;
        let source = std::fs::read_to_string(repository().join(template(&json)))?;
        let template = ChatTemplate::new(source, ContentFormat::String).map_err(|e| anyhow!(e))?;
        spec.templates.insert("default".to_owned(), template);
    }
    Ok(spec)
}

fn write(folder: &Path, texts: &[(&str, String)]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in texts {
        std::fs::write(folder.join(name).with_extension("txt"), text)?;
    }
    Ok(())
}
