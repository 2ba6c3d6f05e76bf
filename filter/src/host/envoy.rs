//! The host as Envoy implements it: proxy-wasm ABI 0.2.1.
//!
//! The only unsafe code of the project. A callback that is not exported here
//! is one that Envoy does not make.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::RefCell;
use std::ptr::null_mut;
use std::time::Duration;

use super::{Action, Call, Headers, Host, Level, MetricKind, Reply, Status, pairs};
use crate::vm::Vm;

/// `WasmBufferType` and `WasmHeaderMapType`, where used.
mod abi {
    pub(super) const REQUEST_BODY: u32 = 0;
    pub(super) const RESPONSE_BODY: u32 = 1;
    pub(super) const CALL_RESPONSE_BODY: u32 = 4;
    pub(super) const GRPC_MESSAGE: u32 = 5;
    pub(super) const PLUGIN_CONFIGURATION: u32 = 7;
    pub(super) const REQUEST_HEADERS: u32 = 0;
    pub(super) const RESPONSE_HEADERS: u32 = 2;
    pub(super) const CALL_RESPONSE_HEADERS: u32 = 6;
    pub(super) const REQUEST_STREAM: u32 = 0;
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        max_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        kind: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        kind: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_stream(
        target: *const u8,
        target_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end_of_stream: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, difference: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        detail: *const u8,
        detail_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

fn checked(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Takes over memory that the host got through [`proxy_on_memory_allocate`].
fn taken(status: u32, data: *mut u8, size: usize) -> Result<Vec<u8>, Status> {
    checked(status)?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host allocated exactly `size` bytes through
    // `proxy_on_memory_allocate`, which uses the global allocator with
    // alignment 1 as `Vec<u8>` does, filled them, and gave them away.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

fn buffer(kind: u32, start: usize, size: usize) -> Result<Vec<u8>, Status> {
    let (mut data, mut length) = (null_mut(), 0);
    // SAFETY: both pointers are to locals that outlive the call.
    let status = unsafe { proxy_get_buffer_bytes(kind, start, size, &mut data, &mut length) };
    taken(status, data, length)
}

fn replace_header(kind: u32, name: &str, value: &str) -> Result<(), Status> {
    // SAFETY: pointers and lengths are of live strings; the host copies them.
    checked(unsafe {
        proxy_replace_header_map_value(kind, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

struct Envoy;

impl Host for Envoy {
    fn now(&self) -> Duration {
        let mut nanoseconds = 0;
        // SAFETY: the pointer is to a local that outlives the call.
        let status = unsafe { proxy_get_current_time_nanoseconds(&mut nanoseconds) };
        checked(status).map_or(Duration::ZERO, |()| Duration::from_nanos(nanoseconds))
    }

    fn log(&self, level: Level, message: &str) {
        // SAFETY: pointer and length are of a live string; the host copies it.
        // There is nobody to tell that a log line was refused.
        let _status = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
    }

    fn configuration(&self, size: usize) -> Result<Vec<u8>, Status> {
        buffer(abi::PLUGIN_CONFIGURATION, 0, size)
    }

    fn tick_every(&self, period: Duration) -> Result<(), Status> {
        // SAFETY: takes a number.
        checked(unsafe { proxy_set_tick_period_milliseconds(milliseconds(period)) })
    }

    fn act_for(&self, context: u32) -> Result<(), Status> {
        // SAFETY: takes a number.
        checked(unsafe { proxy_set_effective_context(context) })
    }

    fn request_headers(&self) -> Result<Headers, Status> {
        headers(abi::REQUEST_HEADERS)
    }

    fn set_request_header(&self, name: &str, value: &str) -> Result<(), Status> {
        replace_header(abi::REQUEST_HEADERS, name, value)
    }

    fn remove_request_header(&self, name: &str) -> Result<(), Status> {
        // SAFETY: pointer and length are of a live string; the host copies it.
        checked(unsafe {
            proxy_remove_header_map_value(abi::REQUEST_HEADERS, name.as_ptr(), name.len())
        })
    }

    fn request_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status> {
        buffer(abi::REQUEST_BODY, start, length)
    }

    fn resume_request(&self) -> Result<(), Status> {
        // SAFETY: takes a number.
        checked(unsafe { proxy_continue_stream(abi::REQUEST_STREAM) })
    }

    fn response_headers(&self) -> Result<Headers, Status> {
        headers(abi::RESPONSE_HEADERS)
    }

    fn response_body(&self, start: usize, length: usize) -> Result<Vec<u8>, Status> {
        buffer(abi::RESPONSE_BODY, start, length)
    }

    fn set_response_header(&self, name: &str, value: &str) -> Result<(), Status> {
        replace_header(abi::RESPONSE_HEADERS, name, value)
    }

    fn set_filter_state(&self, name: &str, value: &str) -> Result<(), Status> {
        // SAFETY: pointers and lengths are of live strings; the host copies
        // them. A path of one element is its text.
        checked(unsafe {
            proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    fn answer(&self, status: u32, headers: &[(&str, &str)], body: &[u8]) -> Result<(), Status> {
        let headers = pairs::write(headers);
        let detail = "warmpath";
        // SAFETY: pointers and lengths are of live buffers, which the host copies.
        checked(unsafe {
            proxy_send_local_response(
                status,
                detail.as_ptr(),
                detail.len(),
                body.as_ptr(),
                body.len(),
                headers.as_ptr(),
                headers.len(),
                -1,
            )
        })
    }

    fn call(&self, call: &Call<'_>) -> Result<u32, Status> {
        let headers = pairs::write(call.headers);
        let trailers = pairs::write(&[]);
        let mut token = 0;
        // SAFETY: pointers and lengths are of live buffers, which the host
        // copies; the token's is to a local that outlives the call.
        let status = unsafe {
            proxy_http_call(
                call.cluster.as_ptr(),
                call.cluster.len(),
                headers.as_ptr(),
                headers.len(),
                call.body.as_ptr(),
                call.body.len(),
                trailers.as_ptr(),
                trailers.len(),
                milliseconds(call.timeout),
                &mut token,
            )
        };
        checked(status).map(|()| token)
    }

    fn open_stream(&self, cluster: &str, service: &str, method: &str) -> Result<u32, Status> {
        let target = pairs::grpc_service(cluster);
        let metadata = pairs::write(&[]);
        let mut token = 0;
        // SAFETY: pointers and lengths are of live buffers, which the host
        // copies; the token's is to a local that outlives the call.
        let status = unsafe {
            proxy_grpc_stream(
                target.as_ptr(),
                target.len(),
                service.as_ptr(),
                service.len(),
                method.as_ptr(),
                method.len(),
                metadata.as_ptr(),
                metadata.len(),
                &mut token,
            )
        };
        checked(status).map(|()| token)
    }

    fn send_on_stream(&self, token: u32, message: &[u8]) -> Result<(), Status> {
        // SAFETY: pointer and length are of a live buffer; the host copies it.
        checked(unsafe { proxy_grpc_send(token, message.as_ptr(), message.len(), 0) })
    }

    fn close_stream(&self, token: u32) -> Result<(), Status> {
        // SAFETY: takes a number.
        checked(unsafe { proxy_grpc_cancel(token) })
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<u32, Status> {
        let mut id = 0;
        // SAFETY: pointer and length are of a live string, which the host
        // copies; the id's is to a local that outlives the call.
        let status =
            unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) };
        checked(status).map(|()| id)
    }

    fn add_to_metric(&self, id: u32, difference: i64) -> Result<(), Status> {
        // SAFETY: takes numbers.
        checked(unsafe { proxy_increment_metric(id, difference) })
    }

    fn record_in_metric(&self, id: u32, value: u64) -> Result<(), Status> {
        // SAFETY: takes numbers.
        checked(unsafe { proxy_record_metric(id, value) })
    }
}

/// 0 would mean no timeout and no tick.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn headers(kind: u32) -> Result<Headers, Status> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both pointers are to locals that outlive the call.
    let status = unsafe { proxy_get_header_map_pairs(kind, &mut data, &mut size) };
    Headers::read(taken(status, data, size)?)
}

/// One header alone, where the others say nothing that is needed.
fn header(kind: u32, name: &str) -> Result<String, Status> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: pointer and length are of a live string; the others are to
    // locals that outlive the call.
    let status = unsafe {
        proxy_get_header_map_value(kind, name.as_ptr(), name.len(), &mut data, &mut size)
    };
    let value = taken(status, data, size)?;
    String::from_utf8(value).map_err(|_| Status::PARSE_FAILURE)
}

thread_local! {
    static VM: RefCell<Vm<Envoy>> = RefCell::new(Vm::new(Envoy));
}

/// Runs a callback; `otherwise` is what Envoy gets where the VM is in use
/// already, which no host does, but which must not be a panic either.
fn with<T>(otherwise: T, callback: impl FnOnce(&mut Vm<Envoy>) -> T) -> T {
    VM.with(|vm| vm.try_borrow_mut().map(|mut vm| callback(&mut vm))).unwrap_or(otherwise)
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: made by the linker, to be called once and first, as here.
    unsafe { __wasm_call_ctors() };
    // The message of a panic may quote text (a slice's, a parser's); where it
    // happened is enough to find it, and no prompt is logged.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        Envoy.log(Level::Error, &format!("warmpath: fault in the filter at {place}"));
    }));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory for what the host hands over; see [`taken`].
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the layout is not of size 0. A null pointer on exhaustion is
        // what the host expects: it fails that one call.
        Ok(layout) if size > 0 => unsafe { std::alloc::alloc(layout) },
        _ => null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    with((), |vm| vm.on_context_create(context, root));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, size: usize) -> u32 {
    with((), |vm| vm.on_configure(context, size));
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    with((), |vm| vm.on_tick(context));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _count: usize, end_of_stream: u32) -> u32 {
    with(Action::Continue, |vm| vm.on_request_headers(context, end_of_stream != 0)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    with(Action::Continue, |vm| vm.on_request_body(context, size, end_of_stream != 0)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, _count: usize) -> u32 {
    with(Action::Continue, |vm| vm.on_request_trailers(context)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _count: usize, end_of_stream: u32) -> u32 {
    with((), |vm| vm.on_response_headers(context, end_of_stream != 0));
    Action::Continue as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    with((), |vm| vm.on_response_body(context, size, end_of_stream != 0));
    Action::Continue as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, _count: usize) -> u32 {
    with((), |vm| vm.on_response_trailers(context));
    Action::Continue as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    _context: u32,
    token: u32,
    headers: usize,
    body_size: usize,
    _trailers: usize,
) {
    let status =
        if headers == 0 { None } else { header(abi::CALL_RESPONSE_HEADERS, ":status").ok() };
    let status = status.and_then(|status| status.parse().ok());
    let body =
        if body_size == 0 { Ok(Vec::new()) } else { buffer(abi::CALL_RESPONSE_BODY, 0, body_size) };
    // A body that can not be read is as good as none: no decision is empty.
    let reply = Reply { status, body: body.unwrap_or_default() };
    with((), |vm| vm.on_call_reply(token, &reply));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(_context: u32, token: u32, size: usize) {
    let message = buffer(abi::GRPC_MESSAGE, 0, size).unwrap_or_default();
    with((), |vm| vm.on_stream_message(token, &message));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(_context: u32, token: u32, _status: u32) {
    with((), |vm| vm.on_stream_close(token));
}

// Envoy follows `proxy_on_done` up with this at once; one call into the VM is enough.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    with((), |vm| vm.on_delete(context));
}
