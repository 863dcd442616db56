//! Taking in a request's body: bounded in bytes, in time, and over all requests together.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::refusal::Refusal;

/// A client that is there sends something within this time; one that died or trickles must not keep memory.
const PAUSE: Duration = Duration::from_secs(20);
/// What a body may take at least, however small it is.
const SHORTEST: Duration = Duration::from_secs(30);
/// Slower lines than this (32 KiB/s) are cut: 150 MB then take 80 minutes at most.
const SLOWEST: u64 = 32 * 1024;
/// Bytes of bodies that are held at once; 64 requests of Graph's usual limit, or one of Exchange's greatest and some more.
const HELD: u64 = 256 * 1024 * 1024;
/// Bodies up to this size are read without asking for a share: the number of connections bounds them.
const SMALL: u64 = 64 * 1024;
/// By how much the share of a body of unknown length grows.
const STEP: u64 = 1024 * 1024;
/// Permits are handed out in units of this many bytes.
const UNIT: u64 = 1024;

/// All bodies' memory.
pub(crate) struct Bodies(Semaphore);

impl Bodies {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new((HELD / UNIT) as usize))
    }

    fn reserve(&self, bytes: u64) -> Result<Option<SemaphorePermit<'_>>, Refusal> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let units = u32::try_from(bytes.min(HELD) / UNIT).unwrap_or(u32::MAX);
        self.0.try_acquire_many(units).map(Some).map_err(|_| Refusal::Busy)
    }
}

/// What is too large.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// The body is a message, whole or in JSON: this many bytes, since a message may have `message` bytes.
    Message {
        /// For the body.
        body: u64,
        /// For the message.
        message: u64,
    },
    /// The body is an order.
    Order(u64),
}

impl Limit {
    fn most(self) -> u64 {
        match self {
            Self::Message { body, .. } => body,
            Self::Order(most) => most,
        }
    }

    fn refusal(self, size: u64) -> Refusal {
        match self {
            Self::Message { message, .. } => Refusal::MessageTooLarge { size, most: message },
            Self::Order(most) => Refusal::BodyTooLarge { most },
        }
    }
}

/// Reads all of the body; the permit keeps its share of the memory until it is dropped.
pub(crate) async fn read<'a>(
    bodies: &'a Bodies,
    headers: &HeaderMap,
    mut body: Body,
    limit: Limit,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>), Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(told) = told.filter(|&told| told > limit.most()) {
        return Err(limit.refusal(told));
    }
    let expected = told.unwrap_or(0);
    let mut share = bodies.reserve(expected)?;
    let mut granted = expected.max(SMALL);
    let whole = SHORTEST + Duration::from_secs(told.unwrap_or(limit.most()) / SLOWEST);
    let read = async {
        // A small body arrives in one frame, which is taken as it is.
        let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
        if first.len() as u64 == expected {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0).max(first.len()));
        let mut frame = Some(first);
        while let Some(bytes) = frame {
            let size = (all.len() + bytes.len()) as u64;
            if size > limit.most() {
                return Err(limit.refusal(size));
            }
            // Only without a told length: the share grows with what comes.
            while size > granted {
                let more = bodies.reserve(STEP)?;
                match (&mut share, more) {
                    (Some(share), Some(more)) => share.merge(more),
                    (share, more) => *share = more,
                }
                granted += STEP;
            }
            all.extend_from_slice(&bytes);
            frame = next(&mut body).await?;
        }
        Ok(all.freeze())
    };
    let bytes = timeout(whole, read).await.unwrap_or(Err(Refusal::Slow { seconds: whole.as_secs() }))?;
    Ok((bytes, share))
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        match timeout(PAUSE, body.frame()).await {
            Err(_) => return Err(Refusal::Slow { seconds: PAUSE.as_secs() }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refusal::Broken),
            Ok(Some(Ok(frame))) => {
                // Trailers say nothing here.
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
