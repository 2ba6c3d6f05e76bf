/*!
The models: their names, and what the filter must have to tokenize for them.

Each configured folder is read, its tokenizer compiled to a table and verified
against the reference library once, at start, on the blocking threads. The
results are kept by their SHA-256 for `/v1/tables`, so a filter fetches each at
most once and can never mix two versions. A model whose table is refused is
still served: the manifest says why, and `/v1/route/text` tokenizes with the
library here.
*/

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use warmpath_prompt::{Model, ModelFolder, SPEC_FORMAT, TABLE_FORMAT};
use warmpath_protocol::{Manifest, ManifestModel, Resource};

use crate::config::ModelConfig;
use crate::fleet::View;

/// The names that clients may send as `model`.
pub struct Names {
    models: Vec<ModelConfig>,
    /// Name, alias or adapter → position, and whether it is an adapter.
    by_name: HashMap<String, (usize, bool)>,
}

impl Names {
    /// The names of the configured models.
    pub fn new(models: Vec<ModelConfig>) -> Self {
        let mut by_name = HashMap::new();
        for (at, model) in models.iter().enumerate() {
            by_name.insert(model.name.clone(), (at, false));
            by_name.extend(model.aliases.iter().map(|alias| (alias.clone(), (at, false))));
            by_name.extend(model.adapters.iter().map(|adapter| (adapter.clone(), (at, true))));
        }
        Self { models, by_name }
    }

    /// How many models there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The base model that a client means, and whether it named an adapter.
    pub fn find(&self, name: &str) -> Option<(usize, bool)> {
        self.by_name.get(name).copied()
    }

    /// The base model of exactly that name.
    pub fn base(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| model.name == name)
    }

    /// The base models' names, by position.
    pub fn base_names(&self) -> Vec<&str> {
        self.models.iter().map(|model| model.name.as_str()).collect()
    }

    /// A model's served name.
    pub fn name(&self, model: usize) -> &str {
        self.models.get(model).map_or("", |model| model.name.as_str())
    }

    /// A model's configured block size.
    pub fn block_size(&self, model: usize) -> Option<u32> {
        self.models.get(model).and_then(|model| model.block_size)
    }
}

/// What was made of one model's folder.
#[derive(Clone, Default)]
struct Entry {
    spec: Option<Resource>,
    table: Option<Resource>,
    native: Option<Arc<Model>>,
    unavailable: Option<String>,
    settled: bool,
}

#[derive(Clone, Default)]
struct State {
    entries: Vec<Entry>,
    resources: HashMap<String, Bytes>,
}

/// The models' compiled tokenizers.
pub struct Catalog {
    names: Arc<Names>,
    state: RwLock<Arc<State>>,
}

impl Catalog {
    /// A catalog in which nothing is compiled yet.
    pub fn new(names: Arc<Names>) -> Self {
        let entry = |model: &ModelConfig| match model.path {
            Some(_) => Entry { unavailable: Some("still compiling".into()), ..Entry::default() },
            None => Entry {
                unavailable: Some("no path is configured for the model".into()),
                settled: true,
                ..Entry::default()
            },
        };
        let entries = names.models.iter().map(entry).collect();
        let state = State { entries, resources: HashMap::new() };
        Self { names, state: RwLock::new(Arc::new(state)) }
    }

    /// Compiles every model with a path; returns when all are settled.
    pub async fn compile(self: Arc<Self>) {
        let paths: Vec<_> = self.names.models.iter().map(|model| model.path.clone()).collect();
        for (at, path) in paths.into_iter().enumerate() {
            let Some(path) = path else { continue };
            let compiled = tokio::task::spawn_blocking(move || compile(&path)).await;
            let compiled = compiled.unwrap_or_else(|error| Compiled {
                unavailable: Some(format!("compiling failed: {error}")),
                ..Compiled::default()
            });
            self.settle(at, compiled);
        }
    }

    fn settle(&self, at: usize, compiled: Compiled) {
        let model = self.names.name(at);
        match &compiled.unavailable {
            Some(reason) => tracing::warn!(model, reason, "no table for the model"),
            None => tracing::info!(model, "model compiled"),
        }
        let mut state = self.state.write();
        let mut next = State::clone(&state);
        let mut keep = |bytes: Bytes, format: &str| {
            let resource = Resource {
                sha256: hex_sha256(&bytes),
                bytes: bytes.len() as u64,
                format: format.to_owned(),
            };
            next.resources.insert(resource.sha256.clone(), bytes);
            resource
        };
        let entry = Entry {
            spec: compiled.spec.map(|bytes| keep(bytes, SPEC_FORMAT)),
            table: compiled.table.map(|bytes| keep(bytes, TABLE_FORMAT)),
            native: compiled.native,
            unavailable: compiled.unavailable,
            settled: true,
        };
        next.entries[at] = entry;
        *state = Arc::new(next);
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }

    /// Shows the models on `/metrics`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(CatalogMetrics(Arc::clone(self))));
    }

    /// The models that are neither compiled nor refused yet.
    pub fn unsettled(&self) -> Vec<String> {
        let state = self.state();
        let unsettled = state.entries.iter().enumerate().filter(|(_, entry)| !entry.settled);
        unsettled.map(|(at, _)| self.names.name(at).to_owned()).collect()
    }

    /// The native tokenizer of a model; the error says why there is none.
    pub fn native(&self, model: usize) -> Result<Arc<Model>, String> {
        let state = self.state();
        let Some(entry) = state.entries.get(model) else { return Err("no such model".into()) };
        let reason = || entry.unavailable.clone().unwrap_or_else(|| "no tokenizer".to_owned());
        entry.native.clone().ok_or_else(reason)
    }

    /// The bytes of that hash.
    pub fn resource(&self, sha256: &str) -> Option<Bytes> {
        self.state().resources.get(sha256).cloned()
    }

    /// The manifest for the fleet as it is.
    pub fn manifest(&self, fleet: &View) -> Manifest {
        let state = self.state();
        let models: Vec<ManifestModel> = self
            .names
            .models
            .iter()
            .zip(&state.entries)
            .enumerate()
            .map(|(at, (model, entry))| {
                let mut block_sizes = fleet.block_sizes(at);
                if block_sizes.is_empty() {
                    block_sizes.extend(model.block_size);
                }
                ManifestModel {
                    name: model.name.clone(),
                    aliases: model.aliases.clone(),
                    adapters: model.adapters.clone(),
                    block_sizes,
                    spec: entry.spec.clone(),
                    table: entry.table.clone(),
                    unavailable: entry.unavailable.clone(),
                    compiling: !entry.settled,
                }
            })
            .collect();
        let bytes = serde_json::to_vec(&models).unwrap_or_default();
        Manifest { revision: hex_sha256(&bytes), models }
    }
}

/// `/metrics` reads the catalog as it is.
struct CatalogMetrics(Arc<Catalog>);

impl fmt::Debug for CatalogMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CatalogMetrics")
    }
}

impl Collector for CatalogMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Models of the manifest, by whether the filter can tokenize for them";
        let mut family =
            encoder.encode_descriptor("manifest_models", help, None, MetricType::Gauge)?;
        let state = self.0.state();
        for (table, there) in [("yes", true), ("no", false)] {
            let models = state.entries.iter().filter(|entry| entry.table.is_some() == there);
            let labels = [("table", table)];
            family.encode_family(&labels)?.encode_gauge(&(models.count() as u64))?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Compiled {
    spec: Option<Bytes>,
    table: Option<Bytes>,
    native: Option<Arc<Model>>,
    unavailable: Option<String>,
}

/// Reads and compiles a folder; whatever of it works is kept.
fn compile(path: &Path) -> Compiled {
    let refused = |reason: String| Compiled { unavailable: Some(reason), ..Compiled::default() };
    let folder = match ModelFolder::load(path) {
        Ok(folder) => folder,
        Err(error) => return refused(error.to_string()),
    };
    let native = match Model::new(folder.spec.clone(), Box::new(folder.encoder())) {
        Ok(model) => Arc::new(model),
        Err(error) => return refused(error.to_string()),
    };
    let native = Some(native);
    let spec = match serde_json::to_vec(&folder.spec) {
        Ok(spec) => Some(Bytes::from(spec)),
        Err(error) => {
            return Compiled { native, ..refused(format!("the model's spec: {error}")) };
        }
    };
    match folder.table() {
        Ok(table) => Compiled { spec, table: Some(table.into()), native, unavailable: None },
        Err(error) => Compiled { spec, native, ..refused(error.to_string()) },
    }
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let model = |name: &str, alias: &str, adapter: &str| ModelConfig {
            name: name.into(),
            path: None,
            aliases: vec![alias.into()],
            adapters: vec![adapter.into()],
            block_size: Some(16),
        };
        Names::new(vec![model("a", "a-alias", "a-lora"), model("b", "b-alias", "b-lora")])
    }

    #[test]
    fn a_client_may_name_a_model_by_name_alias_or_adapter() {
        let names = names();
        assert_eq!(names.find("a"), Some((0, false)));
        assert_eq!(names.find("b-alias"), Some((1, false)));
        assert_eq!(names.find("b-lora"), Some((1, true)));
        assert_eq!(names.find("c"), None);
        assert_eq!(names.base("a-alias"), None);
    }

    #[test]
    fn a_model_is_compiling_until_it_is_settled() {
        let mut models = names().models;
        models[0].path = Some("/models/a".into());
        let catalog = Catalog::new(Arc::new(Names::new(models)));
        let compiling = |catalog: &Catalog| {
            catalog.manifest(&View::default()).models.iter().map(|one| one.compiling).collect()
        };
        let before: Vec<bool> = compiling(&catalog);
        catalog.settle(0, Compiled::default());
        assert_eq!((before, compiling(&catalog)), (vec![true, false], vec![false, false]));
    }

    #[test]
    fn the_revision_changes_exactly_when_the_models_do() {
        let catalog = Catalog::new(Arc::new(names()));
        let view = View::default();
        let first = catalog.manifest(&view);
        assert_eq!(first, catalog.manifest(&view));
        assert_eq!(first.models[0].block_sizes, [16]);
        let refused =
            Compiled { unavailable: Some("no such folder".into()), ..Compiled::default() };
        catalog.settle(0, refused);
        assert_ne!(first.revision, catalog.manifest(&view).revision);
    }
}
