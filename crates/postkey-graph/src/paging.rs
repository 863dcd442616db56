//! Lists that come in pages: the link to the next one is followed as it stands, and only within Graph.

use std::marker::PhantomData;

use postkey_base::CorrelationId;
use reqwest::header::HeaderMap;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    call::Request,
    error::{GraphError, Unreadable},
    graph::Graph,
    json,
    shape::CallShape,
};

/// Pages of one list at most: at Graph's smallest page of ten still ten thousand entries.
pub const MOST_PAGES: usize = 1_000;

/// A list read page by page, for callers who need not hold it whole.
pub struct Pages<T> {
    graph: Graph,
    shape: CallShape,
    /// Sent again with every page; Graph forgets them.
    headers: HeaderMap,
    mailbox: Option<String>,
    next: Option<String>,
    pages: usize,
    /// Our id of the latest request, for whoever must explain a failure.
    latest: CorrelationId,
    entries: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default, deserialize_with = "json::or_default")]
    value: Vec<T>,
    #[serde(default, rename = "@odata.nextLink")]
    next: Option<String>,
}

impl<T: DeserializeOwned> Pages<T> {
    /// The list that begins with `first`. Not yet asked for.
    pub(crate) fn new(graph: &Graph, first: Request<'_>) -> Self {
        let (shape, headers, mailbox, url) = first.into_link();
        Self {
            graph: graph.clone(),
            shape,
            headers,
            mailbox,
            next: Some(url),
            pages: 0,
            latest: CorrelationId::random(),
            entries: PhantomData,
        }
    }

    /// The next page, which may be empty; `None` after the last.
    ///
    /// # Errors
    /// What the call gives; also a link that leaves Graph, one that leads back to itself, and too many pages.
    pub async fn next_page(&mut self) -> Result<Option<Vec<T>>, GraphError> {
        let Some(link) = self.next.take() else { return Ok(None) };
        let request = self.graph.call_link(self.shape, &link, self.mailbox.clone());
        // Links are checked before they are kept: only the caller's own first one comes here unchecked.
        let request = request.expect("the link lies within Graph");
        let reply = request.headers(&self.headers).send().await?;
        self.latest = reply.client_request_id;
        let page: Page<T> = reply.json()?;
        self.pages += 1;
        if let Some(next) = page.next {
            if next == link {
                return Err(reply.unreadable(Unreadable::GoesInCircles));
            }
            if self.pages >= MOST_PAGES {
                return Err(reply.unreadable(Unreadable::TooMany { limit: MOST_PAGES, of: "pages" }));
            }
            self.graph.call_link(self.shape, &next, None).map_err(|cause| reply.unreadable(cause))?;
            self.next = Some(next);
        }
        Ok(Some(page.value))
    }

    /// All of it, if it has no more than `bound` entries.
    ///
    /// # Errors
    /// As [`Pages::next_page`], and [`Unreadable::TooMany`] beyond the bound.
    pub async fn all(mut self, bound: usize) -> Result<Vec<T>, GraphError> {
        let mut entries = Vec::new();
        while let Some(page) = self.next_page().await? {
            entries.extend(page);
            if entries.len() > bound {
                return Err(GraphError::Unreadable {
                    call: self.shape,
                    client_request_id: self.latest,
                    cause: Unreadable::TooMany { limit: bound, of: "entries" },
                });
            }
        }
        Ok(entries)
    }

    /// The first entries only, at most `count`, and no more pages than that takes.
    ///
    /// # Errors
    /// As [`Pages::next_page`].
    pub async fn first(mut self, count: usize) -> Result<Vec<T>, GraphError> {
        let mut entries = Vec::new();
        while entries.len() < count {
            match self.next_page().await? {
                Some(page) => entries.extend(page),
                None => break,
            }
        }
        entries.truncate(count);
        Ok(entries)
    }
}

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Links hold skip tokens, which say nothing to a reader.
        f.debug_struct("Pages").field("of", &self.shape.path).field("read", &self.pages).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
