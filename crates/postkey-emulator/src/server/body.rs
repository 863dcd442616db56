//! The body of an answer, which may break off on purpose.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::Cut;

/// A body that announces its whole length and may send only half of it.
pub(crate) struct AnswerBody {
    announced: u64,
    rest: Option<Bytes>,
    breaks_off: bool,
    /// Turns left to the connection before it is cut: hyper flushes what it has whenever a body has nothing ready.
    turns: u8,
}

impl AnswerBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { announced: bytes.len() as u64, rest: (!bytes.is_empty()).then_some(bytes), breaks_off: false, turns: 0 }
    }

    pub(crate) fn truncated(bytes: Bytes) -> Self {
        let announced = bytes.len().max(1) as u64;
        Self { announced, rest: Some(bytes.slice(..bytes.len() / 2)), breaks_off: true, turns: 2 }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.rest.take() {
            Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            _ if self.turns > 0 => {
                self.turns -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ if self.breaks_off => {
                self.breaks_off = false;
                Poll::Ready(Some(Err(Cut)))
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && !self.breaks_off
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
