//! Other people's mail servers beside the program: Postfix and Dovecot as Debian brings them, with settings, queue and
//! folders of their own. They live in a process namespace whose first process ends when this one does, however it ends.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Postfix is up within a second.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Runs both servers, and ends when its standard input does; then everything in its namespace ends.
const KEEPER: &str = r#"
if [ -e "$0/dovecot/dovecot.conf" ]; then
    dovecot -c "$0/dovecot/dovecot.conf" -F &
    until [ -S "$0/dovecot/auth" ]; do sleep 0.02; done
fi
postfix -c "$0/postfix" start-fg &
read -r end
"#;

/// The services of a Postfix that takes mail by SMTP and hands it on: none of Debian's own, nothing in a chroot.
const SERVICES: &str = "
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";

/// One running Postfix, perhaps with a Dovecot that checks its users.
pub(crate) struct Servers {
    keeper: Child,
    folder: TempDir,
    /// Where it takes mail.
    pub(crate) port: u16,
}

/// Which tokens a far end takes: those signed by these keys and issued to this app.
pub(crate) struct Tokens<'a> {
    /// What the JWKS lists: key id, and certificate in PEM's base64.
    pub(crate) keys: &'a [(String, String)],
    pub(crate) client_id: &'a str,
}

impl Servers {
    /// A far end: SMTP submission with STARTTLS and XOAUTH2, whose tokens Dovecot checks against the issuer's keys. What it
    /// takes for `domain` lies in a Maildir.
    pub(crate) fn far_end(domain: &str, tokens: &Tokens<'_>) -> Servers {
        let servers = Prepared::new();
        let at = servers.folder.path().display().to_string();
        let (ca, certificate, key) = certificates();
        servers.write("ca.pem", &ca);
        servers.write("certificate.pem", &certificate);
        servers.write("key.pem", &key);
        std::fs::set_permissions(servers.path("key.pem"), PermissionsExt::from_mode(0o600)).expect("it is ours");
        for (id, certificate) in tokens.keys {
            servers.write(&format!("keys/default/RS256/{id}"), &public_key(certificate));
        }
        servers.write(
            "dovecot/dovecot.conf",
            &format!(
                "base_dir = {at}/dovecot/run\nlog_path = {at}/dovecot.log\nprotocols =\nssl = no\nlisten = 127.0.0.1\n\
                 auth_mechanisms = xoauth2 oauthbearer\n\
                 passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {at}/dovecot/oauth2.conf\n}}\n\
                 userdb {{\n driver = static\n args = uid=nobody gid=nogroup home=/nonexistent\n}}\n\
                 service auth {{\n unix_listener {at}/dovecot/auth {{\n  mode = 0666\n }}\n}}\n"
            ),
        );
        // A token for an application names no mailbox: every user name becomes the same word, and the app is compared.
        servers.write(
            "dovecot/oauth2.conf",
            &format!(
                "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={at}/keys/\n\
                 username_attribute = appid\nusername_format = app\nactive_attribute = appid\nactive_value = {}\n",
                tokens.client_id
            ),
        );
        std::fs::create_dir(servers.path("mail")).expect("the folder is writable");
        chown(servers.path("mail"), Some(65534), Some(65534)).expect("root may give a folder away");
        servers.start(&format!(
            "virtual_mailbox_domains = {domain}\nvirtual_mailbox_base = {at}/mail\nvirtual_mailbox_maps = static:inbox/\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_mailbox_limit = 0\n\
             smtpd_tls_cert_file = {at}/certificate.pem\nsmtpd_tls_key_file = {at}/key.pem\n\
             smtpd_tls_security_level = encrypt\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = {at}/dovecot/auth\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
             smtpd_recipient_restrictions = permit_sasl_authenticated, reject\n"
        ))
    }

    /// A relay in front: it takes mail on loopback from anybody and hands all of it to one server over verified TLS, signed in
    /// by PLAIN, each recipient in a transaction of its own.
    pub(crate) fn in_front_of(port: u16, user: &str, password: &str, ca: &Path) -> Servers {
        let servers = Prepared::new();
        let at = servers.folder.path().display().to_string();
        servers.write("password", &format!("[localhost]:{port} {user}:{password}\n"));
        servers.start(&format!(
            "mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
             relayhost = [localhost]:{port}\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_mechanism_filter = plain\n\
             smtp_sasl_password_maps = texthash:{at}/password\nsmtp_sasl_security_options = noanonymous\n\
             smtp_tls_security_level = secure\nsmtp_tls_CAfile = {}\nsmtp_tls_verify_cert_match = hostname\n\
             smtp_tls_secure_cert_match = hostname\n\
             smtp_destination_recipient_limit = 1\nsmtp_destination_concurrency_limit = 5\n\
             initial_destination_concurrency = 5\n",
            ca.display()
        ))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The CA that vouches for it.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The messages that were delivered, in no order.
    pub(crate) fn delivered(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.path("mail/inbox/new")) else { return Vec::new() };
        entries.flatten().filter_map(|entry| std::fs::read(entry.path()).ok()).collect()
    }

    /// What the servers logged.
    pub(crate) fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        read("out") + &read("log") + &read("dovecot.log")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Only this process: it is our child and not yet waited for. Its namespace ends with it.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        if std::thread::panicking() {
            eprintln!("the mail servers said:\n{}", self.log());
        }
    }
}

/// A folder for servers that do not run yet.
struct Prepared {
    folder: TempDir,
}

impl Prepared {
    fn new() -> Prepared {
        assert!(
            rustix::process::geteuid().is_root(),
            "NOT TESTED: Postfix runs as several users, which only root can start: run the tests as root"
        );
        let folder = TempDir::with_prefix("postkey-servers-").expect("a temporary folder can be made");
        let open = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("it is ours");
        Prepared { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder is writable");
        std::fs::write(path, text).expect("the folder is writable");
    }

    fn start(self, settings: &str) -> Servers {
        let at = self.folder.path().display().to_string();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = held.local_addr().expect("it is bound").port();
        drop(held);
        for name in ["queue", "state"] {
            std::fs::create_dir(self.path(name)).expect("the folder is writable");
        }
        let (user, group) = postfix_user();
        chown(self.path("state"), Some(user), Some(group)).expect("root may give a folder away");
        // As Exchange does, it leaves header addresses as they are. Access tokens are long: 2,048 bytes, Postfix's limit of a line, are not enough for one.
        self.write(
            "postfix/main.cf",
            &format!(
                "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/state\n\
                 maillog_file = {at}/log\nmaillog_file_prefixes = {at}\nmyhostname = localhost\nmydestination =\n\
                 inet_interfaces = loopback-only\ninet_protocols = ipv4\nalias_maps =\nalias_database =\n\
                 line_length_limit = 16384\nlocal_header_rewrite_clients =\nmessage_size_limit = 52428800\nsmtp_host_lookup = native\n{settings}"
            ),
        );
        self.write("postfix/master.cf", &format!("127.0.0.1:{port} inet n - n - - smtpd{SERVICES}"));
        let out = std::fs::File::create(self.path("out")).expect("the folder is writable");
        let mut keeper = Command::new("unshare");
        keeper.args(["--pid", "--fork", "--kill-child", "sh", "-c", KEEPER]).arg(self.folder.path());
        // Debian keeps servers off everybody's path.
        keeper.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        keeper.stdin(Stdio::piped()).stdout(out.try_clone().expect("a file can be opened twice")).stderr(out);
        let keeper = keeper.spawn().expect("unshare starts");
        let mut servers = Servers { keeper, folder: self.folder, port };
        servers.wait();
        servers
    }
}

impl Servers {
    /// Until it greets. Dovecot was up before: without it Postfix would give up for a minute.
    fn wait(&mut self) {
        let began = Instant::now();
        let greets = |port| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).ok()?;
            line.starts_with("220").then_some(())
        };
        while greets(self.port).is_none() {
            if let Ok(Some(status)) = self.keeper.try_wait() {
                panic!("the mail servers ended before they were ready ({status}):\n{}", self.log());
            }
            assert!(began.elapsed() < START_PATIENCE, "the mail servers are not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A CA, and a certificate for localhost with its key.
fn certificates() -> (String, String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name.push(DnType::CommonName, "far end's CA");
    let authority_key = KeyPair::generate().expect("a key can be made");
    let ca = authority.self_signed(&authority_key).expect("a CA can be made").pem();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a host name");
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = leaf.signed_by(&key, &issuer).expect("the CA can sign").pem();
    (ca, certificate, key.serialize_pem())
}

/// The key of a certificate, as PEM.
fn public_key(certificate: &str) -> String {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
    let mut openssl = Command::new("openssl");
    let mut openssl = openssl
        .args(["x509", "-pubkey", "-noout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    std::io::Write::write_all(&mut openssl.stdin.take().expect("it is a pipe"), pem.as_bytes()).expect("it reads");
    let output = openssl.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl takes no certificate: {pem}");
    String::from_utf8(output.stdout).expect("PEM is plain text")
}

/// User and group that Debian's package made.
fn postfix_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let line = users.lines().find(|line| line.starts_with("postfix:")).expect("Postfix is installed: cargo xtask test");
    let fields: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
    (fields[0], fields[1])
}
