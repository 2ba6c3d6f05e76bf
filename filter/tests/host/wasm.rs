//! The compiled module, its imports answered by the [`Fake`] host.

use std::sync::OnceLock;

use warmpath_filter::host::{Action, Call, Headers, Host, Level, MetricKind, Reply, Status, pairs};
use warmpath_testbed::build::{Module as Build, filter_wasm};
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

use super::{Fake, Filter, gateway};

/// The memory of the module.
const MEMORY: &str = "memory";

struct Data {
    host: Fake,
    memory: Option<Memory>,
    allocate: Option<TypedFunc<u32, u32>>,
}

type Env<'a> = Caller<'a, Data>;

/// A VM with the module in it.
pub struct Wasm {
    store: Store<Data>,
    instance: Instance,
}

/// The module that cargo makes of this package, compiled once.
pub fn module(build: Build) -> &'static (Engine, Module) {
    static SIMD: OnceLock<(Engine, Module)> = OnceLock::new();
    static SCALAR: OnceLock<(Engine, Module)> = OnceLock::new();
    let module = if build == Build::Simd { &SIMD } else { &SCALAR };
    module.get_or_init(|| {
        let engine = Engine::default();
        let module = Module::from_file(&engine, filter_wasm(build).unwrap()).unwrap();
        (engine, module)
    })
}

impl Wasm {
    pub fn simd(host: &Fake) -> Box<dyn Filter> {
        Self::start(host, Build::Simd)
    }

    pub fn scalar(host: &Fake) -> Box<dyn Filter> {
        Self::start(host, Build::Scalar)
    }

    fn start(host: &Fake, build: Build) -> Box<dyn Filter> {
        let (engine, module) = module(build);
        let mut linker = Linker::new(engine);
        import(&mut linker).unwrap();
        let data = Data { host: host.clone(), memory: None, allocate: None };
        let mut store = Store::new(engine, data);
        let instance = linker.instantiate(&mut store, module).unwrap();
        let memory = instance.get_memory(&mut store, MEMORY).unwrap();
        let allocate = instance.get_typed_func(&mut store, "proxy_on_memory_allocate").unwrap();
        store.data_mut().memory = Some(memory);
        store.data_mut().allocate = Some(allocate);
        let mut wasm = Self { store, instance };
        wasm.run::<(), ()>("_initialize", ());
        Box::new(wasm)
    }

    fn run<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(&mut self, name: &str, args: P) -> R {
        let callback = self.instance.get_typed_func::<P, R>(&mut self.store, name).unwrap();
        callback.call(&mut self.store, args).unwrap_or_else(|trap| panic!("{name}: {trap:?}"))
    }

    fn action<P: wasmtime::WasmParams>(&mut self, name: &str, args: P) -> Action {
        match self.run::<P, u32>(name, args) {
            0 => Action::Continue,
            1 => Action::Pause,
            other => panic!("{name} returned {other}"),
        }
    }

    fn enter(&self, context: u32) {
        self.store.data().host.enter(context);
    }
}

impl Filter for Wasm {
    fn on_context_create(&mut self, context: u32, root: u32) {
        self.enter(context);
        self.run("proxy_on_context_create", (context, root))
    }

    fn on_configure(&mut self, context: u32, size: usize) {
        self.enter(context);
        let accepted: u32 = self.run("proxy_on_configure", (context, size as u32));
        assert_eq!(accepted, 1, "Envoy would refuse its whole configuration");
    }

    fn on_tick(&mut self, context: u32) {
        self.enter(context);
        self.run("proxy_on_tick", context)
    }

    fn on_request_headers(&mut self, context: u32, end_of_stream: bool) -> Action {
        self.enter(context);
        self.action("proxy_on_request_headers", (context, 0, u32::from(end_of_stream)))
    }

    fn on_request_body(&mut self, context: u32, size: usize, end_of_stream: bool) -> Action {
        self.enter(context);
        let end_of_stream = u32::from(end_of_stream);
        self.action("proxy_on_request_body", (context, size as u32, end_of_stream))
    }

    fn on_request_trailers(&mut self, context: u32) -> Action {
        self.enter(context);
        self.action("proxy_on_request_trailers", (context, 1))
    }

    fn on_response_headers(&mut self, context: u32, end_of_stream: bool) {
        self.enter(context);
        let end_of_stream = u32::from(end_of_stream);
        let action = self.action("proxy_on_response_headers", (context, 1, end_of_stream));
        assert_eq!(action, Action::Continue);
    }

    fn on_response_body(&mut self, context: u32, size: usize, end_of_stream: bool) {
        self.enter(context);
        let end_of_stream = u32::from(end_of_stream);
        let action = self.action("proxy_on_response_body", (context, size as u32, end_of_stream));
        assert_eq!(action, Action::Continue);
    }

    fn on_response_trailers(&mut self, context: u32) {
        self.enter(context);
        let action = self.action("proxy_on_response_trailers", (context, 1));
        assert_eq!(action, Action::Continue);
    }

    fn on_call_reply(&mut self, token: u32, reply: &Reply) {
        self.enter(gateway::ROOT);
        self.store.data().host.state().reply = reply.clone();
        let headers = u32::from(reply.status.is_some());
        let size = reply.body.len() as u32;
        self.run("proxy_on_http_call_response", (gateway::ROOT, token, headers, size, 0))
    }

    fn on_stream_message(&mut self, token: u32, message: &[u8]) {
        self.enter(gateway::ROOT);
        self.store.data().host.state().reply.body = message.to_vec();
        self.run("proxy_on_grpc_receive", (gateway::ROOT, token, message.len() as u32))
    }

    fn on_stream_close(&mut self, token: u32) {
        self.enter(gateway::ROOT);
        self.run("proxy_on_grpc_close", (gateway::ROOT, token, 14))
    }

    fn on_delete(&mut self, context: u32) {
        self.enter(context);
        self.run("proxy_on_delete", context)
    }
}

fn empty(headers: Vec<u8>) -> bool {
    Headers::read(headers).unwrap().iter().next().is_none()
}

fn memory(env: &Env<'_>) -> Memory {
    env.data().memory.unwrap()
}

fn host(env: &Env<'_>) -> Fake {
    env.data().host.clone()
}

fn bytes(env: &Env<'_>, at: u32, size: u32) -> Vec<u8> {
    memory(env).data(env)[at as usize..][..size as usize].to_vec()
}

fn text(env: &Env<'_>, at: u32, size: u32) -> String {
    String::from_utf8(bytes(env, at, size)).unwrap()
}

fn put(env: &mut Env<'_>, at: u32, value: &[u8]) {
    memory(env).write(env, at as usize, value).unwrap();
}

/// Gives bytes to the module, in memory that it allocates.
fn give(env: &mut Env<'_>, value: &[u8], at: u32, size_at: u32) {
    let allocate = env.data().allocate.clone().unwrap();
    let size = value.len() as u32;
    let address = if size == 0 { 0 } else { allocate.call(&mut *env, size).unwrap() };
    put(env, address, value);
    put(env, at, &address.to_le_bytes());
    put(env, size_at, &size.to_le_bytes());
}

fn status<T>(result: Result<T, Status>) -> u32 {
    result.map_or_else(|status| status.0, |_| 0)
}

/// What proxy-wasm and WASI ask of a host, as far as the module does; anything
/// else that it came to import would fail here.
fn import(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    log_and_time(linker)?;
    headers(linker)?;
    stream(linker)?;
    grpc(linker)?;
    metrics(linker)?;
    wasi(linker)
}

fn log_and_time(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let env = "env";
    linker.func_wrap(env, "proxy_log", |env: Env<'_>, level: u32, at: u32, size: u32| -> u32 {
        let level = [Level::Info, Level::Warn, Level::Error][level as usize - 2];
        host(&env).log(level, &text(&env, at, size));
        0
    })?;
    linker.func_wrap(
        env,
        "proxy_get_current_time_nanoseconds",
        |mut env: Env<'_>, at: u32| -> u32 {
            let now = host(&env).now().as_nanos() as u64;
            put(&mut env, at, &now.to_le_bytes());
            0
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_set_tick_period_milliseconds",
        |env: Env<'_>, period: u32| -> u32 {
            status(host(&env).tick_every(std::time::Duration::from_millis(period.into())))
        },
    )?;
    linker.func_wrap(env, "proxy_set_effective_context", |env: Env<'_>, context: u32| -> u32 {
        status(host(&env).act_for(context))
    })?;
    linker.func_wrap(
        env,
        "proxy_get_buffer_bytes",
        |mut env: Env<'_>, kind: u32, start: u32, size: u32, at: u32, size_at: u32| -> u32 {
            let host = host(&env);
            let buffer = match kind {
                0 => host.request_body(start as usize, size as usize),
                1 => host.response_body(start as usize, size as usize),
                // The answer to a call, and a message of a stream.
                4 | 5 => Ok(host.state().reply.body.clone()),
                7 => host.configuration(size as usize),
                _ => Err(Status::BAD_ARGUMENT),
            };
            let given = buffer.map(|buffer| give(&mut env, &buffer, at, size_at));
            status(given)
        },
    )?;
    Ok(())
}

fn headers(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_get_header_map_pairs",
        |mut env: Env<'_>, kind: u32, at: u32, size_at: u32| -> u32 {
            let headers = match kind {
                0 => host(&env).request_headers(),
                2 => host(&env).response_headers(),
                _ => panic!("nobody asks for headers {kind}"),
            };
            status(headers.map(|headers| {
                let headers: Vec<_> = headers.iter().collect();
                let borrowed: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
                give(&mut env, &pairs::write(&borrowed), at, size_at);
            }))
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_get_header_map_value",
        |mut env: Env<'_>, kind: u32, name: u32, name_size: u32, at: u32, size_at: u32| -> u32 {
            let name = text(&env, name, name_size);
            let host = host(&env);
            let value = match (kind, name.as_str()) {
                (6, ":status") => host.state().reply.status.map(|status| status.to_string()),
                other => panic!("nobody asks for {other:?}"),
            };
            let Some(value) = value else { return 1 };
            give(&mut env, value.as_bytes(), at, size_at);
            0
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_replace_header_map_value",
        |env: Env<'_>, kind: u32, name: u32, name_size: u32, value: u32, size: u32| -> u32 {
            let (name, value) = (text(&env, name, name_size), text(&env, value, size));
            status(match kind {
                0 => host(&env).set_request_header(&name, &value),
                2 => host(&env).set_response_header(&name, &value),
                _ => Err(Status::BAD_ARGUMENT),
            })
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_remove_header_map_value",
        |env: Env<'_>, kind: u32, name: u32, size: u32| -> u32 {
            assert_eq!(kind, 0);
            status(host(&env).remove_request_header(&text(&env, name, size)))
        },
    )?;
    Ok(())
}

fn stream(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let env = "env";
    linker.func_wrap(env, "proxy_continue_stream", |env: Env<'_>, stream: u32| -> u32 {
        assert_eq!(stream, 0);
        status(host(&env).resume_request())
    })?;
    linker.func_wrap(
        env,
        "proxy_send_local_response",
        |env: Env<'_>,
         code: u32,
         detail: u32,
         detail_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         grpc: i32|
         -> u32 {
            assert_eq!((text(&env, detail, detail_size).as_str(), grpc), ("warmpath", -1));
            let headers = Headers::read(bytes(&env, headers, headers_size)).unwrap();
            let headers: Vec<_> = headers.iter().collect();
            let headers: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
            status(host(&env).answer(code, &headers, &bytes(&env, body, body_size)))
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_set_property",
        |env: Env<'_>, path: u32, path_size: u32, value: u32, size: u32| -> u32 {
            let (path, value) = (text(&env, path, path_size), text(&env, value, size));
            assert!(!path.contains('\0'), "one path element, or the access log can not name it");
            status(host(&env).set_filter_state(&path, &value))
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_http_call",
        |mut env: Env<'_>,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         trailers: u32,
         trailers_size: u32,
         timeout: u32,
         token: u32|
         -> u32 {
            let headers = Headers::read(bytes(&env, headers, headers_size)).unwrap();
            let headers: Vec<_> = headers.iter().collect();
            let borrowed: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
            assert!(empty(bytes(&env, trailers, trailers_size)));
            let call = Call {
                cluster: &text(&env, cluster, cluster_size),
                headers: &borrowed,
                body: &bytes(&env, body, body_size),
                timeout: std::time::Duration::from_millis(timeout.into()),
            };
            let made = host(&env).call(&call);
            status(made.map(|made| put(&mut env, token, &made.to_le_bytes())))
        },
    )?;
    Ok(())
}

fn grpc(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_grpc_stream",
        |mut env: Env<'_>,
         target: u32,
         target_size: u32,
         service: u32,
         service_size: u32,
         method: u32,
         method_size: u32,
         metadata: u32,
         metadata_size: u32,
         token: u32|
         -> u32 {
            let target = bytes(&env, target, target_size);
            let [0x0a, outer, 0x0a, inner, cluster @ ..] = &target[..] else {
                panic!("no cluster in {target:?}");
            };
            assert_eq!((*outer as usize, *inner as usize), (cluster.len() + 2, cluster.len()));
            assert!(empty(bytes(&env, metadata, metadata_size)));
            let cluster = String::from_utf8(cluster.to_vec()).unwrap();
            let (service, method) =
                (text(&env, service, service_size), text(&env, method, method_size));
            let opened = host(&env).open_stream(&cluster, &service, &method);
            status(opened.map(|opened| put(&mut env, token, &opened.to_le_bytes())))
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_grpc_send",
        |env: Env<'_>, token: u32, message: u32, size: u32, end_of_stream: u32| -> u32 {
            assert_eq!(end_of_stream, 0);
            status(host(&env).send_on_stream(token, &bytes(&env, message, size)))
        },
    )?;
    linker.func_wrap(env, "proxy_grpc_cancel", |env: Env<'_>, token: u32| -> u32 {
        status(host(&env).close_stream(token))
    })?;
    Ok(())
}

fn metrics(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let env = "env";
    linker.func_wrap(
        env,
        "proxy_define_metric",
        |mut env: Env<'_>, kind: u32, name: u32, size: u32, at: u32| -> u32 {
            let kinds = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram];
            let id = host(&env).define_metric(kinds[kind as usize], &text(&env, name, size));
            status(id.map(|id| put(&mut env, at, &id.to_le_bytes())))
        },
    )?;
    linker.func_wrap(
        env,
        "proxy_increment_metric",
        |env: Env<'_>, id: u32, difference: i64| -> u32 {
            status(host(&env).add_to_metric(id, difference))
        },
    )?;
    linker.func_wrap(env, "proxy_record_metric", |env: Env<'_>, id: u32, value: u64| -> u32 {
        status(host(&env).record_in_metric(id, value))
    })?;
    Ok(())
}

/// The WASI calls that Envoy has and Rust's standard library makes.
fn wasi(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    let wasi = "wasi_snapshot_preview1";
    linker.func_wrap(wasi, "random_get", |mut env: Env<'_>, at: u32, size: u32| -> u32 {
        put(&mut env, at, &vec![7; size as usize]);
        0
    })?;
    linker.func_wrap(
        wasi,
        "environ_sizes_get",
        |mut env: Env<'_>, count: u32, size: u32| -> u32 {
            put(&mut env, count, &[0; 4]);
            put(&mut env, size, &[0; 4]);
            0
        },
    )?;
    linker.func_wrap(wasi, "environ_get", |_: u32, _: u32| -> u32 { 0 })?;
    linker.func_wrap(wasi, "clock_time_get", |_: u32, _: u64, _: u32| -> u32 { 0 })?;
    linker.func_wrap(wasi, "fd_write", |_: u32, _: u32, _: u32, _: u32| -> u32 { 8 })?;
    linker.func_wrap(wasi, "proc_exit", |_: u32| {})?;
    Ok(())
}

/// Names of what the module exports, and of what it imports.
pub fn names() -> (Vec<String>, Vec<String>) {
    let (_, module) = module(Build::Simd);
    let exports = module
        .exports()
        .filter(|export| export.ty().func().is_some())
        .map(|export| export.name().to_owned());
    let imports = module.imports().map(|import| format!("{}.{}", import.module(), import.name()));
    (exports.collect(), imports.collect())
}
