//! The SMTP submission port: driven by the exchange rooms.

pub(crate) use crate::exchange::smtp_server::serve;
