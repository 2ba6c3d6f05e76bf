//! The listeners: Unix socket, HTTP/2 without TLS, end of the process.

mod common;

use std::os::unix::net::UnixListener;

use axum::body::Bytes;
use common::{Indexer, config, quiet, request, tokens};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use warmpath_indexer::app::Listeners;
use warmpath_indexer::config::Config;

/// One request with HTTP/2 from the first byte, as Envoy sends it.
async fn http2<S>(stream: S) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let body = serde_json::to_vec(&request(&tokens(40), 16)).unwrap();
    let asked =
        Request::post("http://indexer/v1/route").body(Full::new(Bytes::from(body))).unwrap();
    let answer = sender.send_request(asked).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unix_socket_and_tcp_speak_http2_with_prior_knowledge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("indexer.sock");
    // What a process that died leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut config = config(&[quiet("0", 8100)]);
    config["unix_socket"] = json!(path);
    let indexer = Indexer::start(config).await;

    let unix = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert_eq!(http2(unix).await["worker"], "0");
    let tcp = tokio::net::TcpStream::connect(indexer.api).await.unwrap();
    assert_eq!(http2(tcp).await["worker"], "0");
    indexer.stop().await;
    assert!(!path.exists(), "the socket file goes with the process");
}

#[test]
fn the_unix_socket_takes_no_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    let bind = |path: &std::path::Path| {
        let tree = json!({"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "unix_socket": path});
        Listeners::bind(&Config::from_tree(&tree).unwrap()).map(drop).map_err(|e| e.to_string())
    };
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(bind(&file).unwrap_err().contains("no socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let socket = folder.path().join("socket");
    let other = UnixListener::bind(&socket).unwrap();
    assert!(bind(&socket).unwrap_err().contains("another process"));
    drop(other);
    bind(&socket).unwrap();
}
