//! Both layouts of an answer, and what is none.

use super::*;

fn frames(frames: &[&'static [u8]]) -> Vec<Bytes> {
    frames.iter().map(|frame| Bytes::from_static(frame)).collect()
}

#[test]
fn batches_are_read_with_and_without_a_topic() {
    let seq: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 9];
    for layout in [vec![b"", seq, b"x"], vec![b"", b"topic", seq, b"x"], vec![seq, b"x"]] {
        let batch = parse(&frames(&layout)).unwrap();
        assert_eq!(batch, Some((9, Bytes::from_static(b"x"))));
    }
}

#[test]
fn an_empty_payload_is_the_end() {
    let end: &[u8] = &[0xff; 8];
    for layout in [vec![b"", end, b""], vec![b"", b"", end, b""]] {
        assert_eq!(parse(&frames(&layout)).unwrap(), None);
    }
}

#[test]
fn anything_else_is_an_error() {
    for layout in [vec![], vec![&b"x"[..]], vec![b"", b"short", b"x"]] {
        assert!(matches!(parse(&frames(&layout)), Err(ReplayError::Layout(_))));
    }
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = Replay::request(&format!("tcp://127.0.0.1:{port}"), 0).await;
    assert!(silent.is_err());
    drop(listener);
    assert!(Replay::request(&format!("tcp://127.0.0.1:{port}"), 0).await.is_err());
}
