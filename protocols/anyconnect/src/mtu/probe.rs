use std::time::{Duration, Instant};

use culvert_vocab::{MTU_MIN, MTU_MIN_IPV6, Mtu};

/// Wait for an answer to one probe.
const PROBE_WAIT: Duration = Duration::from_millis(50);
/// Probes of one size before it counts as too large.
const PROBE_REPEATS: u8 = 6;
/// Longest search.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);

/// Octet that fills probes.
pub const PROBE_FILL: u8 = 0x5a;

/// Search of a client for the largest packet that the UDP channel really carries, before the
/// TUN device comes up (`specs/cstp-dtls.md` §13.3). Probes are DPD requests whose payload is as
/// long as the packet in question.
#[derive(Debug)]
pub struct Prober {
    negotiated: u16,
    min: u16,
    max: u16,
    current: u16,
    confirmed: bool,
    /// Sizes that were given up, for an answer may only be late.
    given_up: Vec<u16>,
    sent: u8,
    due: bool,
    next_at: Instant,
    give_up_at: Instant,
    result: Option<Mtu>,
}

impl Prober {
    /// Searches below `negotiated`; below what IPv6 needs only when that does not pass.
    pub fn new(now: Instant, negotiated: Mtu, inner_ipv6: bool) -> Self {
        let min = if inner_ipv6 { MTU_MIN_IPV6 } else { MTU_MIN };
        let max = negotiated.get();
        Self {
            negotiated: max,
            min,
            max,
            current: max,
            confirmed: false,
            given_up: Vec::new(),
            sent: 0,
            due: true,
            next_at: now + PROBE_WAIT,
            give_up_at: now + SEARCH_LIMIT,
            result: (max <= min).then_some(negotiated),
        }
    }

    /// Least and most of what may still be found.
    pub fn bounds(&self) -> (u16, u16) {
        (self.min, self.max)
    }

    /// The MTU found; `None` while the search goes on. Without any answer it is the negotiated
    /// one.
    pub fn finished(&self) -> Option<Mtu> {
        self.result
    }

    /// Payload length of the probe to send now (filled with [`PROBE_FILL`]), until `None`.
    pub fn poll_probe(&mut self) -> Option<usize> {
        if self.result.is_some() || !std::mem::take(&mut self.due) {
            return None;
        }
        self.sent += 1;
        Some(self.current.into())
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.result.is_none().then_some(self.next_at.min(self.give_up_at))
    }

    /// No answer so far: probes again, or the next smaller size.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.result.is_some() {
            return;
        }
        if now >= self.give_up_at {
            self.finish();
        } else if now >= self.next_at {
            if self.sent >= PROBE_REPEATS {
                self.too_large(now);
            } else {
                self.probe(now, self.current);
            }
        }
    }

    /// A DPD response of this payload length came in. On a slow path it may come when its size was given
    /// up already, which the real client does not take into account.
    pub fn handle_response(&mut self, now: Instant, payload_len: usize) {
        let Ok(size) = u16::try_from(payload_len) else {
            return;
        };
        if self.result.is_some() {
            return;
        }
        if size > self.current && self.given_up.contains(&size) {
            self.given_up.retain(|given_up| *given_up > size);
            self.max = self.given_up.iter().min().map_or(size, |least| least - 1);
        } else if size != self.current {
            return;
        }
        self.confirmed = true;
        self.min = size;
        if size == self.max {
            self.finish();
        } else {
            self.start(now, self.min + (self.max - self.min).div_ceil(2));
        }
    }

    /// The kernel refused to send the probe (EMSGSIZE).
    pub fn handle_too_big(&mut self, now: Instant) {
        if self.result.is_some() {
            return;
        }
        if self.current == self.max && self.max - 1 > self.min {
            self.max -= 1;
            self.start(now, self.max);
        } else {
            self.too_large(now);
        }
    }

    fn too_large(&mut self, now: Instant) {
        self.given_up.push(self.current);
        if self.current <= self.min {
            if self.confirmed || self.min == MTU_MIN {
                self.finish();
                return;
            }
            // A tunnel without IPv6 is better than one that loses every large packet.
            self.min = MTU_MIN;
        }
        self.max = self.current - 1;
        let half = (self.current - self.min) / 2;
        if self.confirmed && self.max == self.min {
            self.finish();
        } else if self.confirmed && half == 0 {
            self.start(now, self.max);
        } else {
            self.start(now, self.min + half);
        }
    }

    fn start(&mut self, now: Instant, size: u16) {
        self.sent = 0;
        self.probe(now, size);
    }

    fn probe(&mut self, now: Instant, size: u16) {
        self.current = size;
        self.due = true;
        self.next_at = now + PROBE_WAIT;
    }

    fn finish(&mut self) {
        let found = if self.confirmed { self.min } else { self.negotiated };
        self.result = Some(Mtu::clamped(found.into()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs the search over a path that carries `path` octets; with `local` the kernel says so.
    fn search(negotiated: u16, ipv6: bool, path: u16, local: bool) -> (u16, Duration) {
        let start = Instant::now();
        let mut now = start;
        let mut prober = Prober::new(now, Mtu::clamped(negotiated.into()), ipv6);
        loop {
            if let Some(mtu) = prober.finished() {
                assert_eq!((prober.poll_probe(), prober.poll_timeout()), (None, None));
                return (mtu.get(), now - start);
            }
            while let Some(len) = prober.poll_probe() {
                if len <= usize::from(path) {
                    // No size that was asked for.
                    prober.handle_response(now, len + 9000);
                    prober.handle_response(now, len);
                } else if local {
                    prober.handle_too_big(now);
                }
            }
            if let Some(at) = prober.poll_timeout() {
                now = at;
                prober.handle_timeout(now);
            }
        }
    }

    #[test]
    fn a_full_path_needs_one_probe() {
        assert_eq!(search(1434, false, 1434, false), (1434, Duration::ZERO));
    }

    #[test]
    fn silence_keeps_the_negotiated_mtu() {
        let (mtu, took) = search(1434, false, 0, false);
        assert_eq!(mtu, 1434);
        assert!(took <= SEARCH_LIMIT);
        assert_eq!(search(1434, true, 0, true).0, 1434);
    }

    #[test]
    fn nothing_to_search() {
        assert_eq!(search(1280, true, 0, false), (1280, Duration::ZERO));
    }

    /// Answers take longer than the search waits for one.
    #[test]
    fn late_answers_count() {
        for delay in [310, 700, 2000] {
            for path in [1434u16, 1400, 1000] {
                let start = Instant::now();
                let mut now = start;
                let mut prober = Prober::new(now, Mtu::clamped(1434), false);
                let mut answers = std::collections::VecDeque::new();
                while prober.finished().is_none() {
                    while let Some(len) = prober.poll_probe() {
                        if len <= usize::from(path) {
                            answers.push_back((now + Duration::from_millis(delay), len));
                        }
                    }
                    let due = prober.poll_timeout().unwrap();
                    if let Some((at, len)) = answers.front().copied().filter(|(at, _)| *at <= due) {
                        answers.pop_front();
                        now = at;
                        prober.handle_response(now, len);
                    } else {
                        now = due;
                        prober.handle_timeout(now);
                    }
                }
                let found = prober.finished().unwrap().get();
                assert!(found <= path, "{found} of {path} after {delay} ms");
                assert!(found == path || path < 1434, "{found} of {path} after {delay} ms");
            }
        }
    }

    proptest! {
        #[test]
        fn finds_the_largest_that_passes(negotiated in 1281u16..9000, path in MTU_MIN..9000, ipv6: bool, local: bool) {
            let (mtu, took) = search(negotiated, ipv6, path, local);
            prop_assert_eq!(mtu, path.min(negotiated));
            prop_assert!(took < SEARCH_LIMIT);
        }
    }
}
