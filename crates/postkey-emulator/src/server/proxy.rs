//! A CONNECT proxy that leads Microsoft's host names to the emulator's ports, for clients at their default settings.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::Shared;

/// Ports that Microsoft's names lead to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    pub(crate) login: u16,
    pub(crate) graph: u16,
    pub(crate) smtp: u16,
}

impl Ways {
    fn to(self, target: &str) -> Option<u16> {
        match target.to_ascii_lowercase().as_str() {
            "login.microsoftonline.com:443" => Some(self.login),
            "graph.microsoft.com:443" | "outlook.office365.com:443" => Some(self.graph),
            "smtp.office365.com:587" => Some(self.smtp),
            _ => None,
        }
    }
}

/// A request head is longer than this for no client.
const HEAD_LIMIT: usize = 16 * 1024;
/// A client that has not said where to by then never will.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);

/// Accepts connections until told to stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, ways: Ways) {
    loop {
        // Dropping either future loses nothing: a connection not yet accepted stays in the kernel's queue.
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (stop, abort) = (shared.stop.clone(), shared.abort.clone());
        shared.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = abort.cancelled() => {}
                outcome = tunnel(stream, ways) => {
                    if let Err(cause) = outcome {
                        tracing::debug!(%cause, "a tunnel ended early");
                    }
                }
            }
        });
    }
}

async fn tunnel(mut client: TcpStream, ways: Ways) -> std::io::Result<()> {
    let head = tokio::time::timeout(HEAD_DEADLINE, head(&mut client)).await??;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let way = match (words.next(), words.next()) {
        (Some("CONNECT"), Some(target)) => ways.to(target),
        _ => None,
    };
    let Some(port) = way else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    };
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The request head, read byte by byte so that nothing of the tunnel's own bytes is swallowed.
async fn head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_LIMIT {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
