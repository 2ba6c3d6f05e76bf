//! The models of the manifest: their tokenizers fetched by content hash,
//! compiled, replaced, freed.
//!
//! A model's files are known by their hashes, so a restart of the indexer or a
//! manifest that only gained an adapter fetches nothing. While new files are on
//! their way the old ones serve; a table that two models share is held once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use warmpath_prompt::{Model, ModelSpec, SPEC_FORMAT, TABLE_FORMAT, TableEncoder};
use warmpath_protocol::{ManifestModel, Resource};

use crate::download::{Download, DownloadError};
use crate::host::Reply;
use crate::message;
use crate::reason::Fallback;

/// All models of one manifest.
#[derive(Default)]
pub struct Models {
    known: Vec<Known>,
    tables: BTreeMap<String, Weak<TableEncoder>>,
    load: Option<Load>,
    made: Option<Made>,
}

struct Known {
    entry: ManifestModel,
    ready: Option<Ready>,
    /// The files that turned out unusable, so that they are not tried again.
    broken: Option<Files>,
}

struct Ready {
    files: Files,
    model: Arc<Model>,
}

/// What a model is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    spec: Resource,
    table: Resource,
}

/// The one load under way.
struct Load {
    name: String,
    files: Files,
    spec: Option<ModelSpec>,
    download: Download,
}

/// A model all of whose files are there.
struct Made {
    name: String,
    files: Files,
    spec: ModelSpec,
    table: Arc<TableEncoder>,
}

/// A model that can tokenize.
pub struct Usable<'a> {
    /// Its manifest entry.
    pub entry: &'a ManifestModel,
    /// Its tokenizer.
    pub model: &'a Arc<Model>,
}

/// How far loading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Models that can tokenize.
    pub ready: usize,
    /// Models whose files are still to come.
    pub loading: usize,
}

/// What became of a load.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The model of this name can tokenize.
    Ready(String),
    /// The files of the model of this name can not be used, and why.
    Broken(String, String),
}

impl Models {
    /// Takes over a new manifest. What it no longer names is freed.
    pub fn update(&mut self, manifest: Vec<ManifestModel>) {
        let mut before = std::mem::take(&mut self.known);
        self.known = manifest
            .into_iter()
            .map(|entry| {
                let old = before.iter().position(|known| known.entry.name == entry.name);
                let old = old.map(|index| before.swap_remove(index));
                let (ready, broken) = old.map_or((None, None), |old| (old.ready, old.broken));
                let ready = ready.filter(|_| entry.compiling || Files::of(&entry).is_some());
                Known { entry, ready, broken }
            })
            .collect();
        let (load, made) = (self.load.take(), self.made.take());
        let is_missing = |name: &str, files: &Files| {
            self.missing().any(|missing| missing.0 == name && missing.1 == *files)
        };
        let load = load.filter(|load| is_missing(&load.name, &load.files));
        let made = made.filter(|made| is_missing(&made.name, &made.files));
        (self.load, self.made) = (load, made);
        self.tables.retain(|_, table| table.strong_count() > 0);
    }

    /// The model that a client calls `name`, ready to tokenize.
    pub fn find(&self, name: &str) -> Result<Usable<'_>, Fallback> {
        let known = self.known.iter().find(|known| known.entry.answers_to(name));
        let known = known.ok_or(Fallback::UnknownModel)?;
        match &known.ready {
            Some(ready) => Ok(Usable { entry: &known.entry, model: &ready.model }),
            None => Err(match Files::of(&known.entry) {
                None if known.entry.compiling => Fallback::ModelLoading,
                None => Fallback::NoTable,
                files if files == known.broken => Fallback::ModelFailed,
                _ => Fallback::ModelLoading,
            }),
        }
    }

    /// How far loading is.
    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.known.iter().filter(|known| known.ready.is_some()).count(),
            loading: self.missing().count(),
        }
    }

    /// The path and the range to fetch next; none where nothing is missing.
    pub fn next_fetch(&mut self) -> Option<Result<(String, String), Loaded>> {
        if self.made.is_some() {
            return None;
        }
        if self.load.is_none() {
            let (name, files) = self.missing().next()?;
            match Download::new(files.spec.clone()) {
                Ok(download) => self.load = Some(Load { name, files, spec: None, download }),
                Err(error) => return Some(Err(self.break_off(name, files, error.to_string()))),
            }
        }
        let download = &self.load.as_ref()?.download;
        Some(Ok((download.path(), download.next_range().unwrap_or_default())))
    }

    /// Takes the answer to a fetch of `path`: says what can not be used.
    ///
    /// An error is one of delivery: the same range is fetched again later.
    pub fn accept(&mut self, path: &str, reply: &Reply) -> Result<Option<Loaded>, DownloadError> {
        let Some(mut load) = self.load.take_if(|load| load.download.path() == path) else {
            return Ok(None);
        };
        match load.download.accept(reply) {
            Ok(()) if load.download.next_range().is_some() => {
                self.load = Some(load);
                Ok(None)
            }
            Ok(()) => Ok(self.complete(load).err()),
            Err(error @ DownloadError::Answer(_)) => {
                self.load = Some(load);
                Err(error)
            }
            Err(error) => Ok(Some(self.break_off(load.name, load.files, error.to_string()))),
        }
    }

    /// One file is there: on to the other, or both are.
    fn complete(&mut self, load: Load) -> Result<(), Loaded> {
        let Load { name, files, spec, download } = load;
        match self.advance(&files, spec, download) {
            Ok(Step::Table(spec, download)) => {
                self.load = Some(Load { name, files, spec: Some(spec), download });
            }
            Ok(Step::Made(spec, table)) => self.made = Some(Made { name, files, spec, table }),
            Err(why) => return Err(self.break_off(name, files, why)),
        }
        Ok(())
    }

    /// Whether a model only waits for [`finish`](Self::finish).
    pub fn is_made(&self) -> bool {
        self.made.is_some()
    }

    /// Takes the model into use whose files are there. Compiling its templates takes as
    /// long as a piece of its files, so it has a callback of its own.
    pub fn finish(&mut self) -> Option<Loaded> {
        let Made { name, files, spec, table } = self.made.take()?;
        match Model::new(spec, Box::new(table)) {
            Ok(model) => {
                let known = self.known.iter_mut().find(|known| known.entry.name == name)?;
                known.ready = Some(Ready { files, model: Arc::new(model) });
                Some(Loaded::Ready(name))
            }
            Err(error) => Some(self.break_off(name, files, format!("spec: {error}"))),
        }
    }

    fn advance(
        &mut self,
        files: &Files,
        spec: Option<ModelSpec>,
        download: Download,
    ) -> Result<Step, String> {
        let bytes = download.finish().map_err(|error| error.to_string())?;
        let Some(spec) = spec else {
            let spec = message::read(&bytes).map_err(|error| format!("spec: {error}"))?;
            let shared = self.tables.get(&files.table.sha256).and_then(Weak::upgrade);
            return match shared {
                Some(table) => Ok(Step::Made(spec, table)),
                None => Download::new(files.table.clone())
                    .map(|download| Step::Table(spec, download))
                    .map_err(|error| format!("table: {error}")),
            };
        };
        let table = TableEncoder::from_hashed_bytes(bytes);
        let table = Arc::new(table.map_err(|error| format!("table: {error}"))?);
        self.tables.insert(files.table.sha256.clone(), Arc::downgrade(&table));
        Ok(Step::Made(spec, table))
    }

    fn break_off(&mut self, name: String, files: Files, why: String) -> Loaded {
        if let Some(known) = self.known.iter_mut().find(|known| known.entry.name == name) {
            known.broken = Some(files);
        }
        Loaded::Broken(name, why)
    }

    /// Models whose current files are neither in use nor known to be broken.
    fn missing(&self) -> impl Iterator<Item = (String, Files)> {
        self.known.iter().filter_map(|known| {
            let files = Files::of(&known.entry)?;
            let in_use = known.ready.as_ref().is_some_and(|ready| ready.files == files);
            let broken = known.broken.as_ref() == Some(&files);
            (!in_use && !broken).then(|| (known.entry.name.clone(), files))
        })
    }
}

/// What a complete file leads to.
enum Step {
    Table(ModelSpec, Download),
    Made(ModelSpec, Arc<TableEncoder>),
}

impl Files {
    /// The files of a model, where it has both in forms that this module reads.
    fn of(entry: &ManifestModel) -> Option<Self> {
        let spec = entry.spec.clone().filter(|spec| spec.format == SPEC_FORMAT)?;
        let table = entry.table.clone().filter(|table| table.format == TABLE_FORMAT)?;
        Some(Self { spec, table })
    }
}

/// What of a manifest can not be used here: one line for each model.
pub fn unusable(manifest: &[ManifestModel]) -> impl Iterator<Item = String> {
    let is_refused = |entry: &&ManifestModel| !entry.compiling && Files::of(entry).is_none();
    manifest.iter().filter(is_refused).map(|entry| {
        let why = entry.unavailable.clone().unwrap_or_else(|| {
            let format = |file: &Option<Resource>| {
                file.as_ref().map_or_else(|| "none".to_owned(), |file| file.format.clone())
            };
            format!(
                "its formats are {} and {}, this filter reads {SPEC_FORMAT} and {TABLE_FORMAT}",
                format(&entry.spec),
                format(&entry.table)
            )
        });
        format!("model {}: no tokenizer: {why}", entry.name)
    })
}
