//! Bodies and clients of every kind: what arrives is what was sent.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmpath_testbed::Client;

use crate::support::{Captured, chat, eventually, gateway, long_text, requests_counted, routed};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_json_passes_unchanged_and_is_counted() -> Result<()> {
    let captured = Captured::start(1, gateway()).await?;
    let client = captured.gateway.client();
    let bodies: [&[u8]; 4] = [b"{\"model\": \"tiny\", ", b"\xff\xfe\x00 not text", b"[]", b"null"];
    for body in bodies {
        let reply = client.send_bytes(CHAT, Bytes::from_static(body), &[]).await?;
        assert_eq!(reply.status, 200);
        assert!(routed(&reply).1.starts_with("fallback-"), "{:?}", routed(&reply));
    }
    let received = captured.received(CHAT);
    let seen: Vec<&[u8]> = received.iter().map(|one| one.body.as_ref()).collect();
    assert_eq!(seen, bodies);
    let counted = requests_counted(&captured.gateway, &["fallback-not_json"]).await?;
    assert!(counted >= 2.0, "{counted}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_three_megabytes_arrive_byte_for_byte_on_both_protocols() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let mut body = chat("size");
    body["messages"][0]["content"] = json!("größe und länge 東京 ".repeat(130_000));
    let body = Bytes::from(body.to_string());
    assert!(body.len() > 3_000_000, "{}", body.len());
    let url = captured.gateway.envoy.url();
    for client in [Client::new(&url), Client::http2(&url)?] {
        let reply = client.send_bytes(CHAT, body.clone(), &[]).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!routed(&reply).1.starts_with("fallback"), "{:?}", routed(&reply));
    }
    let received = captured.received(CHAT);
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|one| one.body == body));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_filters_limit_is_balanced_by_envoy_unchanged() -> Result<()> {
    let options = gateway().filter("max_body_bytes", 100_000);
    let captured = Captured::start(1, options).await?;
    let client = captured.gateway.client();
    let mut body = chat("limits");
    body["messages"][0]["content"] = json!("x".repeat(500_000));
    let reply = client.chat(&body).await?;
    assert_eq!((reply.status, routed(&reply).1), (200, "fallback-body_too_large"));
    // Without a length in the headers the limit is met while the body arrives.
    let text = body.to_string();
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(16_384).collect();
    let answer = chunked(&captured, &pieces).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("fallback-body_too_large"), "{answer}");
    let received = captured.received(CHAT);
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|one| one.body == text));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_decided_and_arrives_byte_for_byte() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let body = chat("chunks").to_string();
    // Cut in odd places, in the middle of a name and of a number too.
    let pieces: Vec<&[u8]> = body.as_bytes().chunks(37).collect();
    let answer = chunked(&captured, &pieces).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-warmpath-reason: load"), "{answer}");
    assert_eq!(captured.received(CHAT)[0].body, body);
    Ok(())
}

/// Sends the pieces as chunks, with pauses in between; returns the answer.
async fn chunked(captured: &Captured, pieces: &[&[u8]]) -> Result<String> {
    let mut stream = TcpStream::connect(captured.gateway.envoy.http).await?;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    for piece in pieces {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
        tokio::task::yield_now().await;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_is_decided_for() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let client = Client::http2(&captured.gateway.envoy.url())?;
    let mut bodies = Vec::new();
    for turn in 0..3 {
        let body = chat(&format!("protocols, part {turn}"));
        let reply = client.chat(&body).await?;
        assert_eq!((reply.status, routed(&reply).1), (200, "load"));
        bodies.push(body.to_string());
    }
    let mut seen: Vec<Bytes> = captured.received(CHAT).into_iter().map(|one| one.body).collect();
    seen.sort();
    bodies.sort();
    assert_eq!(seen, bodies);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_trailers_is_decided() -> Result<()> {
    let captured = Captured::start(2, gateway()).await?;
    let body = chat("trailers").to_string();
    let stream = TcpStream::connect(captured.gateway.envoy.http).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse()?);
    let data = Bytes::from(body.clone());
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(data.slice(..100))),
        Ok(Frame::data(data.slice(100..))),
        Ok(Frame::trailers(trailers)),
    ];
    let request = Request::post(format!("http://x{CHAT}"))
        .header("content-type", "application/json")
        .body(StreamBody::new(futures::stream::iter(frames)))?;
    let response = sender.send_request(request).await.context("no answer")?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-warmpath-reason"], "load");
    response.into_body().collect().await?;
    assert_eq!(captured.received(CHAT)[0].body, body);
    connection.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_harm_nobody() -> Result<()> {
    let captured = Captured::start(1, gateway()).await?;
    let body = chat("hanging up").to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let whole = [head.as_bytes(), body.as_bytes()].concat();
    // In the headers, in the body, and just after it: while the decision is made.
    for cut in [head.len() / 2, head.len() + 10, whole.len() - 1, whole.len(), whole.len()] {
        let mut stream = TcpStream::connect(captured.gateway.envoy.http).await?;
        stream.write_all(&whole[..cut]).await?;
        stream.flush().await?;
        drop(stream);
    }
    let client = captured.gateway.client();
    for turn in 0..3 {
        let reply = client.chat(&chat(&format!("what comes after, {turn}"))).await?;
        assert_eq!((reply.status, routed(&reply).1), (200, "load"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_body_pass() -> Result<()> {
    let captured = Captured::start(1, gateway()).await?;
    let client = captured.gateway.client();
    assert_eq!(client.get("/v1/models", &[]).await?.status, 200);
    assert_eq!(client.get(CHAT, &[]).await?.status, 200);
    let reply = client.send_bytes(CHAT, Bytes::new(), &[]).await?;
    assert_eq!(reply.status, 200);
    assert_eq!(captured.received("/v1/models").len(), 1);
    assert_eq!(captured.received(CHAT).len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_valid_json_arrives_byte_for_byte() -> Result<()> {
    let captured = Captured::start(1, gateway()).await?;
    let client = captured.gateway.client();
    let text = long_text("bytes");
    let bodies = [
        format!(
            "\n{{ \"prompt\" : \"{text}\\u0041\\ud83d\\ude00\" ,\t\"model\":\"tiny\", \"x\": 1e400 }}  "
        ),
        format!("{{\"model\":\"tiny\",\"model\":\"tiny\",\"prompt\":\"{text}\"}}"),
        format!("{{\"model\":\"tiny\",\"prompt\":\"{text}\",\"n\":9007199254740993,\"f\":0.10}}"),
    ];
    for body in &bodies {
        let reply = client.send_bytes("/v1/completions", Bytes::from(body.clone()), &[]).await?;
        assert_eq!(reply.status, 200);
    }
    let ready = 3; // wait_deciding's own requests
    let received = captured.received("/v1/completions");
    let seen: Vec<&Bytes> = received.iter().map(|one| &one.body).collect();
    let ours = &seen[seen.len() - bodies.len()..];
    assert!(seen.len() >= bodies.len() + ready);
    assert_eq!(ours, bodies.iter().map(|body| body.as_bytes()).collect::<Vec<_>>());
    eventually("the requests are counted", async || {
        Ok(requests_counted(&captured.gateway, &[]).await? >= 3.0)
    })
    .await
}
