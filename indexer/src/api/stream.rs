//! `/warmpath.v1.Indexer/Decide`: decisions over one stream, as
//! `warmpath_protocol::stream` defines it.
//!
//! The answering body is the whole server: HTTP asks it for the next piece, it
//! reads what questions have come and returns all their answers as one piece. No
//! task, channel or timer a question, and under load one write for many answers.
//! A gRPC library was rejected: it brings code generation and a message type of
//! its own for two fields that are not even protobuf.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, stream};
use serde::Serialize;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use warmpath_protocol::stream::{Answer, FRAME_HEAD, GREETING, Held, Question};
use warmpath_protocol::{ErrorBody, RouteRequest, brief};

use super::route::{Form, ask};
use super::{Api, ApiError};
use crate::router::{Asked as Asking, Held as Holding, Record};

/// A piece of answers is sent once it has this many bytes.
const PIECE: usize = 32 << 10;

/// What streams are served with.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) api: Arc<Api>,
    /// Longest question in bytes.
    pub(super) max_body_bytes: usize,
    /// They end when this is cancelled: by itself none ever would.
    pub(super) shutdown: CancellationToken,
}

pub(super) async fn decide(State(streams): State<Streams>, request: Request) -> Response {
    let mut answers = Answers {
        end: Box::pin(streams.shutdown.cancelled_owned()),
        questions: Questions::new(streams.max_body_bytes),
        body: request.into_body().into_data_stream(),
        api: streams.api,
        held: BTreeMap::new(),
        is_greeted: false,
        is_over: false,
    };
    let pieces = stream::poll_fn(move |context| answers.poll(context));
    ([(header::CONTENT_TYPE, "application/grpc")], Body::from_stream(pieces)).into_response()
}

/// The answering side of a stream.
struct Answers {
    api: Arc<Api>,
    body: BodyDataStream,
    questions: Questions,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Questions that are held, by their numbers; what is taken out is given up.
    held: BTreeMap<u32, Holding>,
    is_greeted: bool,
    is_over: bool,
}

impl Answers {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        self.is_over = self.end.as_mut().poll(context).is_ready();
        let mut answers = Vec::new();
        if !std::mem::replace(&mut self.is_greeted, true) {
            put(&mut answers, GREETING.number, StatusCode::OK, |_| true);
        }
        while !self.is_over && answers.len() < PIECE {
            match Pin::new(&mut self.body).poll_next(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    let (api, held) = (&self.api, &mut self.held);
                    let answer = |asked: Asked<'_>| answer(api, asked, held, &mut answers);
                    self.is_over = self.questions.read(&piece, answer).is_err();
                }
                Poll::Ready(_) => self.is_over = true,
                Poll::Pending => break,
            }
        }
        let api = &self.api;
        self.held.retain(|number, held| match Pin::new(held).poll(context) {
            Poll::Ready(decided) => {
                write(api, *number, decided.map_err(ApiError::from), &mut answers);
                false
            }
            Poll::Pending => true,
        });
        match (answers.is_empty(), self.is_over) {
            (false, _) => Poll::Ready(Some(Ok(answers.into()))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

fn answer(api: &Api, asked: Asked<'_>, held: &mut BTreeMap<u32, Holding>, answers: &mut Vec<u8>) {
    let Question { number, body } = match asked {
        Asked::Question(question) => question,
        Asked::TooLarge { number } => return write(api, number, Err(too_large()), answers),
    };
    if body.is_empty() {
        held.remove(&number);
        return;
    }
    let patience =
        |request: &RouteRequest| if request.may_hold { Duration::MAX } else { Duration::ZERO };
    match ask(api, body, Form::MessagePack, patience) {
        Ok(Asking::Decided(record)) => write(api, number, Ok(record), answers),
        Ok(Asking::Held(holding)) => {
            let hold_ms = u64::try_from(holding.at_most.as_millis()).unwrap_or(u64::MAX);
            put(answers, number, StatusCode::ACCEPTED, |out| packed(&Held { hold_ms }, out));
            held.insert(number, holding);
        }
        Err(error) => write(api, number, Err(error), answers),
    }
}

fn write(api: &Api, number: u32, decided: Result<Arc<Record>, ApiError>, answers: &mut Vec<u8>) {
    match decided {
        Ok(record) => put(answers, number, StatusCode::OK, |out| {
            brief::write(&record.decision, out) || packed(&record.decision, out)
        }),
        Err(error) => {
            api.metrics.refused(&error);
            let status = error.status();
            put(answers, number, status, |out| packed(&ErrorBody::from(error), out));
        }
    }
}

fn too_large() -> ApiError {
    let code = warmpath_protocol::code::BAD_REQUEST;
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code, "the question is larger than max_body_bytes")
}

fn packed<T: Serialize>(body: &T, out: &mut Vec<u8>) -> bool {
    rmp_serde::encode::write_named(out, body).is_ok()
}

/// Appends a message of gRPC. A body that can not be written is left out, which
/// the other end takes for no decision.
fn put(
    out: &mut Vec<u8>,
    number: u32,
    status: StatusCode,
    body: impl FnOnce(&mut Vec<u8>) -> bool,
) {
    let begin = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD]);
    out.extend_from_slice(&Answer::head(number, status.as_u16()));
    let bare = out.len();
    if !body(out) {
        out.truncate(bare);
    }
    let length = u32::try_from(out.len() - begin - FRAME_HEAD).unwrap_or(u32::MAX);
    out[begin + 1..begin + FRAME_HEAD].copy_from_slice(&length.to_be_bytes());
}

/// The asking side: bytes to messages.
struct Questions {
    largest: usize,
    /// The beginning of a message.
    begun: BytesMut,
    /// So many bytes of a message that is too large are still to come.
    skip: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Question(Question<'a>),
    TooLarge { number: u32 },
}

/// What came is not the protocol.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

impl Questions {
    fn new(largest: usize) -> Self {
        Self { largest, begun: BytesMut::new(), skip: 0 }
    }

    fn read(&mut self, piece: &[u8], mut asked: impl FnMut(Asked<'_>)) -> Result<(), Broken> {
        if self.begun.is_empty() {
            let read = self.messages(piece, &mut asked)?;
            self.begun.extend_from_slice(&piece[read..]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(piece);
        let read = self.messages(&bytes, &mut asked)?;
        bytes.advance(read);
        self.begun = bytes;
        Ok(())
    }

    /// Reads all whole messages; returns how many bytes they were.
    fn messages(
        &mut self,
        bytes: &[u8],
        asked: &mut impl FnMut(Asked<'_>),
    ) -> Result<usize, Broken> {
        let mut rest = bytes;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            let Some(([flags, length @ ..], message)) = rest.split_first_chunk::<FRAME_HEAD>()
            else {
                return Ok(bytes.len() - rest.len());
            };
            if *flags != 0 {
                return Err(Broken);
            }
            let length = u32::from_be_bytes(*length) as usize;
            if length > self.largest {
                let Some(Question { number, .. }) = Question::read(message) else {
                    return Ok(bytes.len() - rest.len());
                };
                asked(Asked::TooLarge { number });
                self.skip = length;
                rest = message;
                continue;
            }
            let Some((message, after)) = message.split_at_checked(length) else {
                return Ok(bytes.len() - rest.len());
            };
            asked(Asked::Question(Question::read(message).ok_or(Broken)?));
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], message].concat()
    }

    /// What is read of pieces of these sizes, the sizes taken in turn.
    fn read(bytes: &[u8], sizes: &[usize], largest: usize) -> Result<Vec<(u32, usize)>, Broken> {
        let mut questions = Questions::new(largest);
        let (mut rest, mut seen) = (bytes, Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            questions.read(piece, |asked| match asked {
                Asked::Question(question) => seen.push((question.number, question.body.len())),
                Asked::TooLarge { number } => seen.push((number, usize::MAX)),
            })?;
            assert!(questions.begun.len() <= largest + FRAME_HEAD, "more is kept than one message");
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_questions(
            lengths in prop::collection::vec(0usize..80, 0..20),
            sizes in prop::collection::vec(1usize..60, 1..5),
        ) {
            let largest = 64;
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (number, length) in (1..).zip(&lengths) {
                let body = vec![7; *length];
                bytes.extend(framed(&Question { number, body: &body }.write()));
                expected.push((number, if length + 4 > largest { usize::MAX } else { *length }));
            }
            prop_assert_eq!(read(&bytes, &sizes, largest), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_the_protocol_ends_the_stream() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n", &[5], 64), Err(Broken));
        assert_eq!(read(&framed(&[1, 2]), &[64], 64), Err(Broken));
        assert_eq!(read(&[1, 0, 0, 0, 0], &[64], 64), Err(Broken));
    }

    #[test]
    fn an_answer_says_its_own_length() {
        let mut out = Vec::new();
        put(&mut out, 9, StatusCode::NOT_FOUND, |out| packed(&ErrorBody::new("c", "m"), out));
        let (head, message) = out.split_first_chunk::<FRAME_HEAD>().unwrap();
        assert_eq!(u32::from_be_bytes(head[1..].try_into().unwrap()) as usize, message.len());
        let answer = Answer::read(message).unwrap();
        assert_eq!((answer.number, answer.status), (9, 404));
        assert_eq!(rmp_serde::from_slice::<ErrorBody>(answer.body).unwrap().error.code, "c");
    }
}
