use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs the policy on a virtual clock and notes what it demands, and when.
struct Bench {
    policy: Policy,
    start: Instant,
}

impl Bench {
    fn new(config: PolicyConfig) -> Self {
        let start = Instant::now();
        Self {
            policy: Policy::new(config, start),
            start,
        }
    }

    fn at(&self, seconds: u32) -> Instant {
        self.start + SECOND * seconds
    }

    fn run_until(&mut self, seconds: u32) -> Vec<(u64, Action)> {
        let mut noted = Vec::new();
        let end = self.at(seconds);
        for _ in 0..1000 {
            let Some(due) = self.policy.poll_timeout().filter(|due| *due <= end) else {
                return noted;
            };
            self.policy.handle_timeout(due);
            while let Some(action) = self.policy.poll_action() {
                noted.push((due.saturating_duration_since(self.start).as_secs(), action));
                match action {
                    Action::Probe(channel) | Action::Keepalive(channel) => self.policy.sent(channel, due),
                    Action::Dead(channel) => self.policy.closed(channel),
                    Action::Rekey(channel) => self.policy.rekeyed(channel, due),
                    Action::IdleTimeout | Action::SessionTimeout => {}
                }
            }
        }
        panic!("the policy does not come to rest: {noted:?}");
    }
}

fn config(role: Role) -> PolicyConfig {
    PolicyConfig {
        role,
        stream: Timers::default(),
        datagram: Timers::default(),
        idle_timeout: None,
        session_end: None,
        switch_to_stream: None,
    }
}

fn dpd(seconds: u32) -> Timers {
    Timers {
        dpd: Some(SECOND * seconds),
        ..Timers::default()
    }
}

#[test]
fn client_probes_and_gives_up() {
    let mut bench = Bench::new(PolicyConfig {
        stream: dpd(20),
        ..config(Role::Client)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    let stream = Channel::Stream;
    let expected = [
        (20, Action::Probe(stream)),
        (30, Action::Probe(stream)),
        (40, Action::Dead(stream)),
    ];
    assert_eq!(bench.run_until(100), expected);
    assert_eq!(bench.policy.data_channel(bench.at(100)), None);
}

#[test]
fn an_answer_starts_the_interval_again() {
    let mut bench = Bench::new(PolicyConfig {
        stream: dpd(20),
        ..config(Role::Client)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    assert_eq!(bench.run_until(25), [(20, Action::Probe(Channel::Stream))]);
    bench.policy.received(Channel::Stream, false, bench.at(25));
    assert_eq!(bench.run_until(50), [(45, Action::Probe(Channel::Stream))]);
}

#[test]
fn server_waits_longer() {
    let mut bench = Bench::new(PolicyConfig {
        stream: dpd(90),
        ..config(Role::Server)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    let stream = Channel::Stream;
    let expected = [
        (180, Action::Probe(stream)),
        (225, Action::Probe(stream)),
        (270, Action::Dead(stream)),
    ];
    assert_eq!(bench.run_until(400), expected);
}

#[test]
fn server_leaves_a_silent_datagram_channel_and_returns() {
    let mut bench = Bench::new(PolicyConfig {
        datagram: dpd(10),
        ..config(Role::Server)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    bench.policy.opened(Channel::Datagram, bench.start);
    assert_eq!(bench.policy.data_channel(bench.at(1)), Some(Channel::Datagram));
    let actions = bench.run_until(31);
    assert!(
        actions
            .iter()
            .all(|(_, action)| *action == Action::Probe(Channel::Datagram)),
        "{actions:?}"
    );
    assert_eq!(bench.policy.data_channel(bench.at(31)), Some(Channel::Stream));
    bench.policy.received(Channel::Datagram, false, bench.at(32));
    assert_eq!(bench.policy.data_channel(bench.at(32)), Some(Channel::Datagram));
    bench.policy.received(Channel::Stream, true, bench.at(33));
    assert_eq!(bench.policy.data_channel(bench.at(33)), Some(Channel::Stream));
}

#[test]
fn a_server_without_a_stream_gives_a_silent_client_up() {
    let mut bench = Bench::new(PolicyConfig {
        datagram: dpd(10),
        ..config(Role::Server)
    });
    bench.policy.opened(Channel::Datagram, bench.start);
    let actions = bench.run_until(100);
    assert_eq!(actions.last(), Some(&(30, Action::Dead(Channel::Datagram))));
}

#[test]
fn server_switches_when_only_it_sends() {
    let switch_to_stream = Some(SECOND * 25);
    let mut bench = Bench::new(PolicyConfig {
        switch_to_stream,
        ..config(Role::Server)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    bench.policy.opened(Channel::Datagram, bench.start);
    assert_eq!(bench.policy.data_channel(bench.at(25)), Some(Channel::Datagram));
    assert_eq!(bench.policy.data_channel(bench.at(26)), Some(Channel::Stream));
    bench.policy.received(Channel::Datagram, true, bench.at(27));
    assert_eq!(bench.policy.data_channel(bench.at(28)), Some(Channel::Datagram));
}

#[test]
fn client_keeps_to_the_datagram_channel_while_it_lives() {
    let mut bench = Bench::new(config(Role::Client));
    bench.policy.opened(Channel::Stream, bench.start);
    assert_eq!(bench.policy.data_channel(bench.start), Some(Channel::Stream));
    bench.policy.opened(Channel::Datagram, bench.start);
    bench.policy.received(Channel::Stream, true, bench.at(1));
    assert_eq!(bench.policy.data_channel(bench.at(1)), Some(Channel::Datagram));
    bench.policy.closed(Channel::Datagram);
    assert_eq!(bench.policy.data_channel(bench.at(2)), Some(Channel::Stream));
}

#[test]
fn keepalive_only_in_silence() {
    let timers = Timers {
        keepalive: Some(SECOND * 30),
        ..Timers::default()
    };
    let mut bench = Bench::new(PolicyConfig {
        stream: timers,
        ..config(Role::Client)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    bench.policy.sent(Channel::Stream, bench.at(20));
    let keepalive = Action::Keepalive(Channel::Stream);
    assert_eq!(bench.run_until(90), [(50, keepalive), (80, keepalive)]);
}

#[test]
fn a_stalled_write_stops_probes_but_not_death() {
    let timers = Timers {
        keepalive: Some(SECOND * 5),
        ..dpd(10)
    };
    let mut bench = Bench::new(PolicyConfig {
        stream: timers,
        ..config(Role::Client)
    });
    bench.policy.opened(Channel::Stream, bench.start);
    bench.policy.set_blocked(Channel::Stream, true);
    assert_eq!(bench.run_until(60), [(20, Action::Dead(Channel::Stream))]);
}

#[test]
fn rekey_comes_first_and_repeats() {
    let timers = Timers {
        rekey: Some(SECOND * 40),
        ..dpd(20)
    };
    let mut bench = Bench::new(PolicyConfig {
        datagram: timers,
        ..config(Role::Client)
    });
    bench.policy.opened(Channel::Datagram, bench.start);
    bench.policy.received(Channel::Datagram, true, bench.at(20));
    let datagram = Channel::Datagram;
    assert_eq!(
        bench.run_until(40),
        [(40, Action::Rekey(datagram)), (40, Action::Probe(datagram))]
    );
    bench.policy.received(Channel::Datagram, true, bench.at(70));
    assert_eq!(bench.run_until(80), [(80, Action::Rekey(datagram))]);
}

#[test]
fn idle_and_session_timeouts_come_once() {
    let idle_timeout = Some(SECOND * 10);
    let mut bench = Bench::new(PolicyConfig {
        idle_timeout,
        ..config(Role::Server)
    });
    bench.policy.user_data(bench.at(5));
    assert_eq!(bench.run_until(100), [(15, Action::IdleTimeout)]);

    let mut bench = Bench::new(config(Role::Server));
    bench.policy.set_session_end(Some(bench.at(7)));
    assert_eq!(bench.run_until(100), [(7, Action::SessionTimeout)]);
}
