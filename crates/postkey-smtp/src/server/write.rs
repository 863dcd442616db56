//! Replies as they go over the wire.

use bytes::BytesMut;

use crate::reply::Reply;

/// Appends `reply` to `out`: its enhanced code before each line, line ends and control characters in its text made
/// blanks, characters beyond ASCII `?`, long lines broken.
pub fn encode_reply(_reply: &Reply, _out: &mut BytesMut) {
    todo!()
}
