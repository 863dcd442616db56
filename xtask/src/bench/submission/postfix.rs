//! The Postfix that postkey is compared to: an instance of its own on a free port of loopback, with its queue on the same disk.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench::process::Folder;
use crate::guardian::Guardian;
use crate::run::{find_program, run};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where accepted mail goes.
pub(super) enum Onward {
    /// Nowhere: it stays in the queue, so that acceptance alone is measured.
    Kept,
    /// To a sink of Postfix's own that takes everything.
    Sink(SocketAddr),
}

/// The running server.
pub(super) struct Postfix<'a> {
    master: Child,
    guardian: &'a Guardian,
    pub(super) address: SocketAddr,
    folder: Folder,
}

/// Whether there is a Postfix to compare with. It needs root.
pub(super) fn installed() -> bool {
    rustix::process::geteuid().is_root() && find_program("postfix").is_some() && find_program("smtp-sink").is_some()
}

impl<'a> Postfix<'a> {
    pub(super) fn start(guardian: &'a Guardian, onward: &Onward) -> Outcome<Postfix<'a>> {
        let folder = Folder::make(guardian)?;
        let address = free_address()?;
        let (config, queue, data) =
            (folder.path().join("config"), folder.path().join("queue"), folder.path().join("data"));
        for one in [&config, &queue, &data] {
            std::fs::create_dir(one).map_err(|e| format!("{}: {e}", one.display()))?;
        }
        let delivery = match onward {
            Onward::Kept => "defer_transports = smtp".to_owned(),
            Onward::Sink(sink) => format!("relayhost = [{}]:{}", sink.ip(), sink.port()),
        };
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {}\ndata_directory = {}\nmyhostname = bench.example\n\
             mydestination =\nlocal_recipient_maps =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\nmaillog_file =\n\
             smtpd_client_connection_count_limit = 0\nalias_maps =\nalias_database =\n\
             smtpd_peername_lookup = no\ndisable_dns_lookups = yes\nmessage_size_limit = 0\nmailbox_size_limit = 0\n{delivery}\n",
            queue.display(),
            data.display()
        );
        let port = address.port();
        let services = format!(
            "127.0.0.1:{port} inet n - n - 200 smtpd\npickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nsmtp unix - - n - - smtp\n\
             error unix - - n - - error\nretry unix - - n - - error\nanvil unix - - n - 1 anvil\n\
             scache unix - - n - 1 scache\nproxymap unix - - n - - proxymap\ntlsmgr unix - - n 1000? 1 tlsmgr\n"
        );
        for (file, text) in [("main.cf", main), ("master.cf", services)] {
            std::fs::write(config.join(file), text).map_err(|e| format!("{file}: {e}"))?;
        }
        // Its programs change to the user `postfix`, who must reach the queue.
        run(guardian, Command::new("chmod").arg("755").arg(folder.path()))?;
        run(guardian, Command::new("chown").arg("postfix").arg(&data))?;
        let quiet = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        };
        let mut check = Command::new("postfix");
        check.arg("-c").arg(&config).arg("check");
        quiet(&mut check);
        run(guardian, &mut check)?;
        let mut start = Command::new("/usr/lib/postfix/sbin/master");
        start.arg("-c").arg(&config).arg("-d").stdin(Stdio::null()).process_group(0);
        quiet(&mut start);
        let master = start.spawn().map_err(|e| format!("Postfix does not start: {e}"))?;
        guardian.watch_group(master.id());
        let postfix = Postfix { master, guardian, address, folder };
        wait_for(address)?;
        Ok(postfix)
    }

    /// Returns once everything accepted has left.
    pub(super) fn wait_until_empty(&self) -> Outcome {
        let began = Instant::now();
        let waits = |queue: &str| {
            let files =
                Command::new("find").arg(self.folder.path().join("queue").join(queue)).args(["-type", "f"]).output();
            files.map(|found| !found.stdout.is_empty()).unwrap_or(false)
        };
        while waits("incoming") || waits("active") || waits("maildrop") {
            if began.elapsed() > Duration::from_secs(300) {
                return Err("Postfix did not empty its queue".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// CPU time of all its processes so far.
    pub(super) fn cpu(&self) -> Duration {
        super::cpu::of_group(self.master.id())
    }
}

impl Drop for Postfix<'_> {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
        self.guardian.forget_group(self.master.id());
        let _ = &self.folder;
    }
}

/// A sink that takes all mail and keeps none.
pub(super) struct Sink<'a> {
    process: Child,
    guardian: &'a Guardian,
    pub(super) address: SocketAddr,
}

impl<'a> Sink<'a> {
    pub(super) fn start(guardian: &'a Guardian) -> Outcome<Sink<'a>> {
        let address = free_address()?;
        let mut sink = Command::new("smtp-sink");
        sink.args(["-u", "postfix", "-c", &address.to_string(), "1000"]);
        sink.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = sink.spawn().map_err(|e| format!("smtp-sink does not start: {e}"))?;
        guardian.watch_group(process.id());
        let sink = Sink { process, guardian, address };
        wait_for(address)?;
        Ok(sink)
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.guardian.forget_group(self.process.id());
    }
}

/// A port that was free a moment ago; if another program takes it first, the start fails aloud.
pub(super) fn free_address() -> Outcome<SocketAddr> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|e| format!("no free port on loopback: {e}"))
}

/// Returns once something answers there.
pub(super) fn wait_for(address: SocketAddr) -> Outcome {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if began.elapsed() > PATIENCE {
            return Err(format!("nothing answers at {address}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
