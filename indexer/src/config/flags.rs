//! The command line of `serve`, and how it lies over the file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::dynamo::DynamoFlags;

/// Flags of the serving indexer; each has an environment variable.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// Configuration file (YAML). Flags win over it; workers in it win over --num-workers.
    #[arg(long, env = "WARMPATH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, for the API and the admin port [default: 127.0.0.1]
    #[arg(long, env = "WARMPATH_HOST", value_name = "IP")]
    pub host: Option<IpAddr>,
    /// Port of the API [default: 7000]
    #[arg(long, env = "WARMPATH_ROUTER_PORT", value_name = "PORT")]
    pub router_port: Option<u16>,
    /// Port of /healthz, /readyz and /metrics [default: the API's port + 1]
    #[arg(long, env = "WARMPATH_ADMIN_PORT", value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Serve the API on this Unix socket too, for an Envoy beside the indexer
    #[arg(long, env = "WARMPATH_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Keep the index in this file over restarts
    #[arg(long, env = "WARMPATH_INDEX_SNAPSHOT", value_name = "FILE")]
    pub index_snapshot: Option<PathBuf>,
    /// Policy that decides [default: ttft; cost where a flag of Dynamo's router shapes it]
    #[arg(long, env = "WARMPATH_POLICY", value_name = "NAME")]
    pub policy: Option<String>,
    /// Flags under the names that Dynamo's router has for them.
    #[command(flatten)]
    pub dynamo: DynamoFlags,

    /// Folder of the model: tokenizer.json, tokenizer_config.json, chat template
    #[arg(long, env = "WARMPATH_MODEL_PATH", value_name = "DIR", help_heading = "One model")]
    pub model_path: Option<PathBuf>,
    /// Name under which the workers serve the model [default: default]
    #[arg(
        long,
        env = "WARMPATH_SERVED_MODEL_NAME",
        value_name = "NAME",
        help_heading = "One model"
    )]
    pub served_model_name: Option<String>,
    /// Tokens in a KV block; learned from events where it is not given
    #[arg(long, env = "WARMPATH_BLOCK_SIZE", value_name = "TOKENS", help_heading = "One model")]
    pub block_size: Option<u32>,

    /// Number of workers on this host; ids are "0" to "N-1", worker i uses the base ports + i
    #[arg(
        long,
        env = "WARMPATH_NUM_WORKERS",
        value_name = "N",
        help_heading = "Workers on this host"
    )]
    pub num_workers: Option<u16>,
    /// First port of the workers' OpenAI HTTP servers
    #[arg(
        long,
        env = "WARMPATH_BASE_HTTP_PORT",
        value_name = "PORT",
        default_value_t = 8100,
        help_heading = "Workers on this host"
    )]
    pub base_http_port: u16,
    /// First port of the workers' KV events (ZMQ PUB)
    #[arg(
        long,
        env = "WARMPATH_BASE_KV_EVENTS_PORT",
        value_name = "PORT",
        default_value_t = 5557,
        help_heading = "Workers on this host"
    )]
    pub base_kv_events_port: u16,
    /// First port of the workers' replay sockets [default: the first event port + 200]
    #[arg(
        long,
        env = "WARMPATH_BASE_REPLAY_PORT",
        value_name = "PORT",
        help_heading = "Workers on this host"
    )]
    pub base_replay_port: Option<u16>,
    /// First port of the workers' load metrics (ZMQ PUB)
    #[arg(
        long,
        env = "WARMPATH_BASE_METRICS_PORT",
        value_name = "PORT",
        default_value_t = 5657,
        help_heading = "Workers on this host"
    )]
    pub base_metrics_port: u16,

    /// How log lines look
    #[arg(long, env = "WARMPATH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Flags {
    /// The tree of the file with these flags laid over it.
    pub(super) fn over(&self, mut tree: Value) -> Value {
        let Some(root) = tree.as_object_mut() else { return tree };
        self.addresses(root);
        let set = |root: &mut Map<String, Value>, name: &str, value: Option<Value>| {
            if let Some(value) = value {
                root.insert(name.to_owned(), value);
            }
        };
        set(root, "policy", self.policy.clone().map(Value::from));
        self.dynamo.over(root);
        set(root, "unix_socket", self.unix_socket.as_ref().map(|path| json!(path)));
        if let Some(path) = &self.index_snapshot {
            merge(root.entry("index").or_insert_with(|| json!({})), json!({ "snapshot": path }));
        }
        self.model(root);
        self.workers(root);
        tree
    }

    /// A host without a port keeps the file's port, and the other way round;
    /// the admin port follows the API's unless something names it.
    fn addresses(&self, root: &mut Map<String, Value>) {
        let parsed = |root: &Map<String, Value>, name: &str| {
            root.get(name)?.as_str()?.parse::<std::net::SocketAddr>().ok()
        };
        if self.host.is_none() && self.router_port.is_none() && self.admin_port.is_none() {
            return;
        }
        let (listen, admin) = (parsed(root, "listen"), parsed(root, "admin"));
        let host = self.host.or(listen.map(|l| l.ip())).unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let port = self.router_port.or(listen.map(|l| l.port())).unwrap_or(7000);
        let admin_host = self.host.or(admin.map(|a| a.ip())).unwrap_or(host);
        let beside = if port == 0 { 0 } else { u32::from(port) + 1 };
        let admin_port = self.admin_port.or(admin.map(|a| a.port())).map_or(beside, u32::from);
        // Written as text and read back, so that a port past 65535 is reported like any other.
        root.insert("listen".to_owned(), json!(address(host, u32::from(port))));
        root.insert("admin".to_owned(), json!(address(admin_host, admin_port)));
    }

    fn model(&self, root: &mut Map<String, Value>) {
        let named = self.served_model_name.as_deref();
        let wanted = named.is_some()
            || self.model_path.is_some()
            || self.block_size.is_some()
            || self.num_workers.is_some();
        if !wanted {
            return;
        }
        let models = root.entry("models").or_insert_with(|| json!([]));
        let Some(models) = models.as_array_mut() else { return };
        // Without a name the flags mean the file's only model.
        let at = match named {
            Some(name) => models.iter().position(|model| model["name"] == name),
            None => (models.len() == 1).then_some(0),
        };
        let at = at.unwrap_or_else(|| {
            if models.is_empty() || named.is_some() {
                models.push(json!({ "name": named.unwrap_or("default") }));
            }
            models.len() - 1
        });
        let Some(model) = models[at].as_object_mut() else { return };
        if let Some(path) = &self.model_path {
            model.insert("path".to_owned(), json!(path));
        }
        if let Some(size) = self.block_size {
            model.insert("block_size".to_owned(), json!(size));
        }
    }

    fn workers(&self, root: &mut Map<String, Value>) {
        let Some(number) = self.num_workers else { return };
        let model = match &self.served_model_name {
            Some(name) => json!(name),
            None => root["models"]
                .as_array()
                .and_then(|m| m.last())
                .map_or(Value::Null, |m| m["name"].clone()),
        };
        let filed = root.insert("workers".to_owned(), Value::Null);
        let mut filed = match filed {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(filed)) => filed,
            Some(wrong) => {
                root.insert("workers".to_owned(), wrong);
                return;
            }
        };
        let mut workers: Vec<Value> = Vec::with_capacity(usize::from(number) + filed.len());
        for i in 0..u32::from(number) {
            let mut worker = self.made(i, &model);
            let same = |worker: &Value| match &worker["id"] {
                Value::String(id) => *id == i.to_string(),
                Value::Number(id) => id.as_u64() == Some(u64::from(i)),
                _ => false,
            };
            if let Some(at) = filed.iter().position(same) {
                merge(&mut worker, filed.remove(at));
            }
            workers.push(worker);
        }
        workers.append(&mut filed);
        root.insert("workers".to_owned(), Value::Array(workers));
    }

    /// Worker `i` of the seeds' port scheme.
    fn made(&self, i: u32, model: &Value) -> Value {
        let host = IpAddr::from([127, 0, 0, 1]);
        let at = |base: u16| address(host, u32::from(base) + i);
        let replay = match self.base_replay_port {
            Some(base) => at(base),
            None => address(host, u32::from(self.base_kv_events_port) + 200 + i),
        };
        json!({
            "id": i.to_string(),
            "model": model,
            "endpoint": at(self.base_http_port),
            "events": {
                "endpoint": format!("tcp://{}", at(self.base_kv_events_port)),
                "replay": format!("tcp://{replay}"),
            },
            "load": {
                "zmq": format!("tcp://{}", at(self.base_metrics_port)),
                "prometheus": format!("http://{}/metrics", at(self.base_http_port)),
            },
        })
    }
}

fn address(host: IpAddr, port: u32) -> String {
    match host {
        IpAddr::V4(host) => format!("{host}:{port}"),
        IpAddr::V6(host) => format!("[{host}]:{port}"),
    }
}

/// Lays `over` over `under`, mapping by mapping.
pub(super) fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}
