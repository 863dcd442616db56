//! What goes wrong on the machine that runs postkey: its clock, its disk, its network, its key and its database.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::disk::SmallDisk;
use crate::story::{HOSTS, Story};

const HELLO: [&str; 7] = ["send", "--to", "alice@contoso.example", "--subject", "Hello", "--body", "Hello."];

#[test]
fn a_network_that_shows_certificates_of_an_unknown_ca_is_named_and_not_trusted() {
    let mut story = Story::begin();
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    let stranger = Story::begin();
    let other_ca = stranger.variable("EMULATOR_CA");
    let values =
        ["--tenant", &tenant, "--client-id", &client, "--mailbox", "noreply@contoso.example", "--secret-file", &secret];
    let add = |hosts: Vec<String>| {
        let begin = ["sender", "add", "mail"].map(str::to_owned);
        begin.into_iter().chain(hosts).chain(values.map(str::to_owned)).collect::<Vec<String>>()
    };
    story.note("The hosts show a certificate of a CA that this machine does not know.");
    let arguments = add(story.hosts_without_ca());
    story.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    story.note("Another CA is trusted than the one that signed.");
    let arguments = add(story.hosts(&other_ca));
    story.mask(&other_ca, "[CA of somebody else]");
    story.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    story.note("With the right CA all is well; then the network begins to intercept.");
    story.add_sender("mail");
    fs::copy(&other_ca, story.variable("EMULATOR_CA")).expect("the CA file can be exchanged");
    story.run(&HELLO);
    story.run_doctor(&[], &["mail"]);
    story.note("A CA file that is none.");
    fs::write(story.variable("EMULATOR_CA"), "not a certificate").expect("the CA file can be written");
    story.run(&HELLO);
    story.shows("unknown_ca");
}

#[test]
fn a_clock_that_is_ten_minutes_off_is_named_with_the_minutes() {
    let mut story = Story::with_certificate_sender();
    // The machine's clock only: the tenant's stays right.
    let clock = story.file("clock", b"600000");
    let ahead = [("POSTKEY_TEST_CLOCK", clock.as_str())];
    story.note("This machine's clock is 10 minutes ahead.");
    story.run_with(&ahead, &HELLO);
    story.run_doctor(&ahead, &["mail"]);
    story.note("It is right again.");
    story.run(&HELLO);
    story.shows("clock_off");
}

#[test]
fn the_wrong_master_key_is_named_and_nothing_is_changed() {
    let mut story = Story::with_sender();
    let key = story.path("keys/master.key");
    let right = fs::read(&key).expect("the first start made a key");
    let before = contents(&story.path("data"));

    story.note("The key of another installation.");
    let other = Story::with_sender();
    fs::copy(other.path("keys/master.key"), &key).expect("the key can be exchanged");
    story.run(&HELLO);
    story.run(&["key", "rotate"]);
    story.note("The key file is gone.");
    fs::remove_file(&key).expect("the key can be removed");
    story.run(&HELLO);
    story.note("The key file holds something else.");
    fs::write(&key, "hunter2\n").expect("the key can be written");
    set_mode(&key, 0o600);
    story.run(&HELLO);
    story.note("The key file may be read by everybody.");
    fs::write(&key, &right).expect("the key can be written");
    set_mode(&key, 0o644);
    story.run(&HELLO);
    assert!(contents(&story.path("data")) == before, "a start with the wrong key changed the store");

    story.note("The right key again; then a rotation, and the key from before it.");
    set_mode(&key, 0o600);
    story.run(&["key", "list"]);
    story.run(&["key", "rotate"]);
    story.run(&["key", "list"]);
    fs::write(&key, &right).expect("the key can be written");
    story.run(&HELLO);
    story.shows("wrong_master_key");
}

#[test]
fn a_damaged_or_foreign_database_and_a_newer_schema_are_named_and_left_as_they_are() {
    let mut story = Story::with_sender();
    let database = story.path("data/postkey.db");
    let whole = fs::read(&database).expect("the database is a file");
    let refuse = |story: &mut Story, note: &str, bytes: &[u8]| {
        fs::write(&database, bytes).expect("the database can be written");
        story.note(note);
        story.run(&HELLO);
        assert!(fs::read(&database).expect("it is still there") == bytes, "{note}: it was changed");
    };
    refuse(&mut story, "The file is no database.", b"Dear Sir or Madam, this is no database.");
    let mut torn = whole.clone();
    torn[4096..8192].fill(0xa5);
    refuse(&mut story, "One of its pages is overwritten.", &torn);
    refuse(&mut story, "It is cut off.", &whole[..whole.len() / 2]);
    refuse(&mut story, "It belongs to a newer postkey.", &newer(&database, &whole));
    story.note("Whole again.");
    fs::write(&database, &whole).expect("the database can be written");
    story.run(&["sender", "list"]);
    story.shows("damaged_database");
}

#[test]
fn a_full_disk_is_named_and_what_was_stored_before_stays() {
    let mut story = Story::begin();
    let Some(disk) = SmallDisk::over(&story.path("data"), "2m") else {
        eprintln!("NOT TESTED: no disk of its own can be had here (unshare, mount); the quota test stands in for it");
        return;
    };
    full_and_not_full(&mut story, &disk);
    story.shows("disk_full");
}

#[test]
fn a_limit_on_the_size_of_files_is_named_and_what_was_stored_before_stays() {
    let mut story = Story::begin();
    full_and_not_full(&mut story, &FileSizeLimit::default());
    story.shows("file_size_limit");
}

fn full_and_not_full(story: &mut Story, disk: &dyn Disk) {
    let secret = story.secret_file(&story.variable("CLIENT_SECRET"));
    let (tenant, client) = (story.variable("TENANT_ID"), story.variable("CLIENT_ID"));
    let values = ["--tenant", &tenant, "--client-id", &client, "--secret-file", &secret];
    let [mail, another] = ["mail", "another"].map(|name| [&["sender", "add", name, HOSTS][..], &values].concat());
    let run = |story: &mut Story, arguments: &[&str]| {
        let call = disk.enter(story.command(arguments));
        story.note_command(arguments);
        story.tell(call, None)
    };
    story.note("The first start, and no room for a store.");
    disk.fill();
    run(story, &["sender", "list"]);
    story.note("Now there is room.");
    disk.free();
    assert_eq!(run(story, &mail), 0);
    story.note("It is used up by something else.");
    disk.fill();
    run(story, &another);
    story.note("There is room again: what was stored before is intact, and the same command works.");
    disk.free();
    run(story, &["sender", "list"]);
    assert_eq!(run(story, &another), 0);
}

/// Something that can be full.
trait Disk {
    fn fill(&self);
    fn free(&self);
    fn enter(&self, call: Command) -> Command;
}

impl Disk for SmallDisk {
    fn fill(&self) {
        SmallDisk::fill(self);
    }

    fn free(&self) {
        SmallDisk::free(self);
    }

    fn enter(&self, call: Command) -> Command {
        self.inside(call)
    }
}

/// A quota as every user has it: no file may grow past a few blocks.
#[derive(Default)]
struct FileSizeLimit {
    reached: Cell<bool>,
}

impl Disk for FileSizeLimit {
    fn fill(&self) {
        self.reached.set(true);
    }

    fn free(&self) {
        self.reached.set(false);
    }

    fn enter(&self, call: Command) -> Command {
        if !self.reached.get() {
            return call;
        }
        let mut shell = Command::new("sh");
        // Blocks of 512 bytes. The signal would end the program before it could say anything.
        shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
        shell.arg(call.get_program()).args(call.get_args());
        for (name, value) in call.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }
}

/// The same database with a schema number from the future.
fn newer(database: &Path, whole: &[u8]) -> Vec<u8> {
    use sqlx::{Connection, Executor, SqliteConnection};
    fs::write(database, whole).expect("the database can be written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let address = format!("sqlite://{}", database.display());
        let mut connection = SqliteConnection::connect(&address).await.expect("the database opens");
        let sql = "INSERT INTO schema_versions (version, applied_at) VALUES (999, 0)";
        connection.execute(sql).await.expect("the number can be written");
        connection.close().await.expect("the database closes");
    });
    fs::read(database).expect("the database is a file")
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("the entry is readable").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            (name, fs::read(&path).expect("the file is readable"))
        })
        .collect();
    files.sort();
    files
}
