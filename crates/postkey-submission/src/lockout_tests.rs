use super::*;

const DEVICE: &str = "198.51.100.7";
const BESIDE: &str = "198.51.100.8";
const ATTACKER: &str = "203.0.113.66";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn guess(lockout: &mut Lockout, name: &str, from: &str, times: u32, second: i64) {
    for _ in 0..times {
        lockout.failed(name, ip(from), at(second));
    }
}

fn is_open(lockout: &Lockout, name: &str, from: &str, second: i64) -> bool {
    lockout.gate(name, ip(from), at(second)) == Gate::Open
}

#[test]
fn guessing_locks_the_guesser_and_not_the_device() {
    let mut lockout = Lockout::new(LockoutSettings::default());
    lockout.succeeded("scanner", ip(DEVICE), at(0));
    guess(&mut lockout, "scanner", ATTACKER, 10, 1);
    for (who, from, open) in [
        ("the attacker", ATTACKER, false),
        ("the attacker's other address in the same network", "203.0.113.9", false),
        ("the device", DEVICE, true),
        ("the device after it moved to another network", "192.0.2.5", true),
    ] {
        assert_eq!(is_open(&lockout, "Scanner", from, 2), open, "{who}");
    }
    assert!(is_open(&lockout, "billing", ATTACKER, 2), "another name is not yet locked there");
}

#[test]
fn the_device_gets_in_even_when_the_attacker_shares_its_network_or_its_address() {
    let mut lockout = Lockout::new(LockoutSettings::default());
    lockout.succeeded("scanner", ip(DEVICE), at(0));
    guess(&mut lockout, "scanner", BESIDE, 200, 1);
    guess(&mut lockout, "scanner", DEVICE, 200, 1);
    assert!(is_open(&lockout, "scanner", DEVICE, 2));
    assert!(!is_open(&lockout, "scanner", BESIDE, 2));
    let long_ago = 31 * 24 * 3600;
    guess(&mut lockout, "scanner", DEVICE, 200, long_ago);
    assert!(!is_open(&lockout, "scanner", DEVICE, long_ago), "a success of long ago proves nothing");
}

#[test]
fn many_names_from_one_network_lock_it_for_names_it_never_used() {
    let mut lockout = Lockout::new(LockoutSettings::default());
    lockout.succeeded("scanner", ip(ATTACKER), at(0));
    for number in 0..40 {
        lockout.failed(&format!("name{number}"), ip(ATTACKER), at(1));
    }
    assert!(!is_open(&lockout, "never-tried", "203.0.113.1", 2));
    assert!(is_open(&lockout, "scanner", ATTACKER, 2), "its own device goes on");
    assert!(is_open(&lockout, "never-tried", DEVICE, 2));
}

#[test]
fn a_lock_ends_by_itself_and_tries_meanwhile_do_not_lengthen_it() {
    let mut lockout = Lockout::new(LockoutSettings::default());
    guess(&mut lockout, "scanner", DEVICE, 10, 0);
    assert_eq!(lockout.gate("scanner", ip(DEVICE), at(1)), Gate::Locked { until: at(900) });
    guess(&mut lockout, "scanner", DEVICE, 1, 600);
    assert!(!is_open(&lockout, "scanner", DEVICE, 899));
    assert!(is_open(&lockout, "scanner", DEVICE, 900));
    lockout.succeeded("scanner", ip(DEVICE), at(901));
    guess(&mut lockout, "scanner", DEVICE, 9, 902);
    assert!(is_open(&lockout, "scanner", BESIDE, 903), "a success clears what was counted for the name there");
}

#[test]
fn the_wait_grows_from_the_second_failure_to_its_bound_and_is_forgotten_in_time() {
    let mut lockout = Lockout::new(LockoutSettings::default());
    let waits: Vec<_> = (0..8).map(|_| lockout.failed("scanner", ip(DEVICE), at(0)).as_millis()).collect();
    assert_eq!(waits, [0, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    assert_eq!(lockout.failed("scanner", ip(DEVICE), at(8 * 60)).as_millis(), 0);
    assert_eq!(lockout.failed("scanner", ip(DEVICE), at(0)).as_millis(), 500, "a clock set back forgets nothing");
}

#[test]
fn memory_is_bounded_and_success_is_not_flushed_by_failures() {
    let settings = LockoutSettings { remembered: 100, ..LockoutSettings::default() };
    let mut lockout = Lockout::new(settings);
    lockout.succeeded("scanner", ip(DEVICE), at(0));
    for number in 0..5_000_u32 {
        let from = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number * 256));
        lockout.failed(&format!("name{number}"), from, at(i64::from(number)));
    }
    assert!(lockout.names.len() <= 100 && lockout.networks.len() <= 100, "{}", lockout.names.len());
    assert!(lockout.is_rightful(lockout.name("scanner"), ip(DEVICE), at(5_000)));
    for number in 0..5_000_u32 {
        lockout.succeeded(&format!("name{number}"), ip(DEVICE), at(1));
    }
    assert!(lockout.rightful.len() <= 100);
}

#[test]
fn networks_are_the_customers_own() {
    for (address, network) in [
        ("203.0.113.66", "203.0.113.0/24"),
        ("::ffff:203.0.113.66", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ] {
        assert_eq!(Network::of(ip(address)).to_string(), network);
    }
}
