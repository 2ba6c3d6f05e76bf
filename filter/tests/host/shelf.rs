//! What the indexer would serve to the filter: a manifest and the files in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use warmpath_filter::host::Reply;
use warmpath_prompt::{Endpoint, Model, ModelFolder, SPEC_FORMAT, TABLE_FORMAT, parse};
use warmpath_protocol::{MANIFEST_PATH, Manifest, ManifestModel, Resource, TABLES_PATH};

use super::Made;

/// A block size that small prompts fill more than once.
pub const BLOCK_SIZE: u32 = 4;

#[derive(Clone, Debug, Default)]
pub struct Shelf {
    pub manifest: Manifest,
    pub files: BTreeMap<String, Vec<u8>>,
}

fn folder() -> &'static ModelFolder {
    static FOLDER: OnceLock<ModelFolder> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny");
        ModelFolder::load(&path).unwrap()
    })
}

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| folder().table().unwrap())
}

/// The ids that the reference encoder gives a body.
pub fn native_ids(endpoint: Endpoint, body: &[u8], unix_seconds: u64) -> Vec<u32> {
    let model = Model::new(folder().spec.clone(), Box::new(folder().encoder())).unwrap();
    let request = parse(endpoint, body).unwrap();
    model.tokenize(&request, unix_seconds).unwrap().ids.swap_remove(0)
}

impl Shelf {
    /// The test model, complete.
    pub fn tiny() -> Self {
        let mut shelf = Self::default();
        let spec = serde_json::to_vec(&folder().spec).unwrap();
        let spec = shelf.put(spec, SPEC_FORMAT);
        let table = shelf.put(table().to_vec(), TABLE_FORMAT);
        shelf.publish(ManifestModel {
            name: "tiny".into(),
            aliases: vec!["small".into()],
            adapters: vec!["tiny-lora".into()],
            block_sizes: vec![BLOCK_SIZE, 16],
            spec: Some(spec),
            table: Some(table),
            ..ManifestModel::default()
        });
        shelf
    }

    /// Puts a file on the shelf.
    pub fn put(&mut self, bytes: Vec<u8>, format: &str) -> Resource {
        let sha256: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let resource =
            Resource { sha256: sha256.clone(), bytes: bytes.len() as u64, format: format.into() };
        self.files.insert(format!("{TABLES_PATH}/{sha256}"), bytes);
        resource
    }

    /// Adds a model to the manifest, or replaces it.
    pub fn publish(&mut self, model: ManifestModel) {
        self.manifest.models.retain(|known| known.name != model.name);
        self.manifest.models.push(model);
        let bytes = serde_json::to_vec(&self.manifest.models).unwrap();
        self.manifest.revision =
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    }

    /// The answer to a `GET`.
    pub fn answer(&self, call: &Made) -> Reply {
        let reply = |status, body: &[u8]| Reply { status: Some(status), body: body.to_vec() };
        assert_eq!(call.headers[":method"], "GET");
        if call.path() == MANIFEST_PATH {
            let tag = format!("\"{}\"", self.manifest.revision);
            if call.headers.get("if-none-match") == Some(&tag) {
                return reply(304, b"");
            }
            return reply(200, &serde_json::to_vec(&self.manifest).unwrap());
        }
        let Some(file) = self.files.get(call.path()) else { return reply(404, b"{}") };
        let range = call.headers["range"].strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (range.0.parse().unwrap(), range.1.parse().unwrap());
        reply(206, &file[first..=last])
    }
}
