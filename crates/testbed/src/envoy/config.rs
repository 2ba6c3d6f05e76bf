//! A bootstrap of `envoy/` with other ports and paths in it.
//!
//! The shipped file is edited as a tree of values, never as text, and each edit
//! fails where the file no longer has what it edits: so the tests run what
//! users are given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::build;

/// How Envoy reaches the indexer.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over its Unix socket.
    Unix(PathBuf),
}

/// A bootstrap to edit and to start Envoy with.
#[derive(Clone, Debug)]
pub struct Config(Value);

/// Reads a YAML file of the repository as a tree.
pub fn read_yaml(path: &Path) -> Result<Value> {
    let path = build::workspace_root().join(path);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("can not read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))
}

impl Config {
    /// Reads a bootstrap, such as `envoy/bootstrap.yaml`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        read_yaml(path.as_ref()).map(Self)
    }

    /// Takes a bootstrap that was put together elsewhere.
    pub fn from_value(value: Value) -> Self {
        Self(value)
    }

    /// The tree.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Listens on loopback ports; 0 lets the kernel choose.
    pub fn listen(&mut self, http: u16, admin: u16) -> Result<&mut Self> {
        for (pointer, port) in
            [("/static_resources/listeners/0/address", http), ("/admin/address", admin)]
        {
            *self.at(pointer)? = socket_address((std::net::Ipv4Addr::LOCALHOST, port).into());
        }
        Ok(self)
    }

    /// The wasm module's file.
    pub fn module(&mut self, path: &Path) -> Result<&mut Self> {
        let filter = self.filter()?;
        *pointer(filter, "/vm_config/code/local/filename")? = json!(path);
        Ok(self)
    }

    /// Changes the filter's own configuration.
    pub fn settings(&mut self, edit: impl FnOnce(&mut Value)) -> Result<&mut Self> {
        let text = pointer(self.filter()?, "/configuration/value")?;
        let mut settings: Value = text
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .context("the filter's configuration is not JSON")?;
        edit(&mut settings);
        *text = json!(settings.to_string());
        Ok(self)
    }

    /// Replaces the filter's own configuration by any text, even a broken one.
    pub fn raw_settings(&mut self, text: &str) -> Result<&mut Self> {
        *pointer(self.filter()?, "/configuration/value")? = json!(text);
        Ok(self)
    }

    /// Takes the filter out: Envoy alone.
    pub fn without_filter(&mut self) -> Result<&mut Self> {
        let filters = self.manager()?.get_mut("http_filters").and_then(Value::as_array_mut);
        filters.context("no http_filters")?.retain(|filter| filter["name"] != "warmpath");
        Ok(self)
    }

    /// Plain round robin over the workers, without override.
    pub fn round_robin(&mut self) -> Result<&mut Self> {
        let cluster = self.cluster("workers")?;
        cluster.as_object_mut().context("not a cluster")?.remove("load_balancing_policy");
        cluster["lb_policy"] = json!("ROUND_ROBIN");
        Ok(self)
    }

    /// The addresses of the workers, in the order of their ids.
    ///
    /// With one cluster for each worker, the clusters `worker-i` are made for
    /// as many as there are, after the shape of `worker-0`.
    pub fn workers(&mut self, workers: &[SocketAddr]) -> Result<&mut Self> {
        let all = workers.iter().copied().map(endpoint).collect();
        *pointer(self.cluster("workers")?, "/load_assignment/endpoints/0/lb_endpoints")? =
            Value::Array(all);
        if self.cluster("worker-0").is_err() {
            return Ok(self);
        }
        let shape = self.cluster("worker-0")?.clone();
        let is_worker = |name: &str| name.strip_prefix("worker-").is_some();
        let clusters = self.clusters()?;
        clusters.retain(|cluster| !cluster["name"].as_str().is_some_and(is_worker));
        for (index, own) in workers.iter().enumerate() {
            let mut cluster = shape.clone();
            let name = json!(format!("worker-{index}"));
            cluster["name"] = name.clone();
            let others = workers.iter().filter(|other| *other != own).copied().map(endpoint);
            cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [
                {"priority": 0, "lb_endpoints": [endpoint(*own)]},
                {"priority": 1, "lb_endpoints": others.collect::<Vec<_>>()},
            ]});
            clusters.push(cluster);
        }
        Ok(self)
    }

    /// The indexer's address.
    pub fn indexer(&mut self, upstream: &Upstream) -> Result<&mut Self> {
        let address = match upstream {
            Upstream::Tcp(address) => socket_address(*address),
            Upstream::Unix(path) => json!({"pipe": {"path": path}}),
        };
        let endpoints = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        *pointer(self.cluster("warmpath-indexer")?, endpoints)? = address;
        Ok(self)
    }

    /// Sends the access log to a file.
    pub fn access_log(&mut self, path: &Path) -> Result<&mut Self> {
        let log = pointer(self.manager()?, "/access_log/0")?;
        let format = log["typed_config"]["log_format"].clone();
        *log = json!({"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path, "log_format": format,
        }});
        Ok(self)
    }

    /// Writes no access log.
    pub fn without_access_log(&mut self) -> Result<&mut Self> {
        let manager = self.manager()?.as_object_mut().context("not a connection manager")?;
        manager.remove("access_log");
        Ok(self)
    }

    /// Whether an access log is written.
    pub fn has_access_log(&mut self) -> Result<bool> {
        Ok(self.manager()?.get("access_log").is_some())
    }

    /// One cluster by name, to edit.
    pub fn cluster(&mut self, name: &str) -> Result<&mut Value> {
        let found = self.clusters()?.iter_mut().find(|cluster| cluster["name"] == name);
        found.with_context(|| format!("the bootstrap has no cluster {name}"))
    }

    fn clusters(&mut self) -> Result<&mut Vec<Value>> {
        self.at("/static_resources/clusters")?.as_array_mut().context("clusters is not a list")
    }

    fn manager(&mut self) -> Result<&mut Value> {
        self.at("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
    }

    fn filter(&mut self) -> Result<&mut Value> {
        let filters = self.manager()?.get_mut("http_filters").and_then(Value::as_array_mut);
        let filter = filters
            .and_then(|filters| filters.iter_mut().find(|filter| filter["name"] == "warmpath"))
            .context("the bootstrap has no filter named warmpath")?;
        pointer(filter, "/typed_config/config")
    }

    fn at(&mut self, path: &str) -> Result<&mut Value> {
        pointer(&mut self.0, path)
    }
}

fn pointer<'tree>(tree: &'tree mut Value, path: &str) -> Result<&'tree mut Value> {
    match tree.pointer_mut(path) {
        Some(value) => Ok(value),
        None => bail!("the Envoy configuration has no {path}"),
    }
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn endpoint(address: SocketAddr) -> Value {
    json!({"endpoint": {"address": socket_address(address)}})
}
