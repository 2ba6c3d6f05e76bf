//! Chat templates, wherever the folder keeps them.

use super::{Files, LoadError, text};
use crate::detect;
use crate::json::Json;
use crate::spec::{ChatTemplate, ModelSpec};
use crate::template::Template;
use std::collections::BTreeMap;

/// Fills in the templates of `spec`: files win over `tokenizer_config.json`.
pub(super) fn read(files: &Files, spec: &mut ModelSpec) -> Result<(), LoadError> {
    if files.model_type() == "gpt_oss" {
        spec.no_templates = Some("the engine renders the Harmony format in code".to_owned());
        return Ok(());
    }
    let mut sources = from_files(files)?;
    if sources.is_empty() {
        sources = from_config(files)?;
    }
    if let Some(reason) = processor_template(files, &sources)? {
        spec.no_templates = Some(reason);
        return Ok(());
    }
    for (name, source) in sources {
        let template = Template::new(&source)
            .and_then(|_| detect::content_format(&source))
            .and_then(|content| ChatTemplate::new(source, content));
        match template {
            Ok(template) => {
                spec.templates.insert(name, template);
            }
            Err(reason) => {
                spec.templates.clear();
                spec.no_templates = Some(format!("the template {name} cannot be used: {reason}"));
                break;
            }
        }
    }
    Ok(())
}

type Sources = BTreeMap<String, String>;

fn from_files(files: &Files) -> Result<Sources, LoadError> {
    let mut sources = Sources::new();
    let default = files.folder.join("chat_template.jinja");
    if default.exists() {
        sources.insert("default".to_owned(), text(&default)?);
    }
    let folder = files.folder.join("additional_chat_templates");
    if folder.is_dir() {
        let read = |source| LoadError::Read { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            if let Some(name) = name.strip_suffix(".jinja") {
                sources.insert(name.to_owned(), text(&path)?);
            }
        }
    }
    Ok(sources)
}

fn from_config(files: &Files) -> Result<Sources, LoadError> {
    let unclear = || LoadError::Content {
        path: files.folder.join("tokenizer_config.json"),
        reason: "chat_template has an unknown form".to_owned(),
    };
    match files.tokenizer_config.given("chat_template") {
        None => Ok(Sources::new()),
        Some(Json::Str(source)) => Ok(Sources::from([("default".to_owned(), source.to_string())])),
        Some(Json::List(templates)) => templates
            .iter()
            .map(|template| {
                let template = template.as_dict().ok_or_else(unclear)?;
                let name = template.get("name").and_then(Json::as_str).ok_or_else(unclear)?;
                let source = template.get("template").and_then(Json::as_str).ok_or_else(unclear)?;
                Ok((name.to_owned(), source.to_owned()))
            })
            .collect(),
        Some(_) => Err(unclear()),
    }
}

/// A multimodal processor's own template comes first where there are no tools.
fn processor_template(files: &Files, sources: &Sources) -> Result<Option<String>, LoadError> {
    const FILE: &str = "chat_template.json";
    if !files.has(FILE) || files.has("chat_template.jinja") {
        return Ok(None);
    }
    let own = super::optional_dict(&files.folder.join(FILE))?;
    let same = own.get("chat_template").and_then(Json::as_str)
        == sources.get("default").map(String::as_str);
    Ok((!same).then(|| format!("{FILE} differs from the tokenizer's template")))
}
