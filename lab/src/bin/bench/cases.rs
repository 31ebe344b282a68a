//! What is measured, in the order of the table, and what is aimed at.

use std::collections::BTreeMap;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    DtlsUp,
    DtlsDown,
    DtlsFourUp,
    DtlsFourDown,
    TlsUp,
    TlsDown,
    PacketsUp,
    PlainUp,
    PlainDown,
    PlainFourUp,
    PlainFourDown,
    LossUp,
    LossDown,
    JunkUp,
    JunkDown,
    ClientCpuUp,
    ServerCpuUp,
    ClientCpuDown,
    ServerCpuDown,
    MixedClientCpuUp,
    MixedClientCpuDown,
    MixedServerCpuUp,
    MixedServerCpuDown,
    EspUp,
    EspDown,
    EspCpuUp,
    EspCpuDown,
    Ping,
    PingLoadedUp,
    PingLoadedDown,
    ClientMemory,
    SessionMemory,
    Logins,
}

/// Aim and floor.
type Target = Option<(f64, f64)>;

/// What is known about a case.
pub(crate) struct Facts {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    /// How many times better than the real programs.
    pub(crate) ratio: Target,
    /// Share of the bare wire.
    pub(crate) of_wire: Target,
    /// Most or, where more is better, least in the case's unit.
    pub(crate) absolute: Target,
}

const fn more(what: &'static str, unit: &'static str, ratio: Target) -> Facts {
    Facts {
        what,
        unit,
        more_is_better: true,
        ratio,
        of_wire: None,
        absolute: None,
    }
}

const fn less(what: &'static str, unit: &'static str, ratio: Target) -> Facts {
    Facts {
        more_is_better: false,
        ..more(what, unit, ratio)
    }
}

const CPU: Target = Some((4.0, 3.0));
const MIXED_CPU: Target = Some((1.5, 1.2));
/// Junk must not halve what the others have.
const JUNK: Target = Some((50.0, 50.0));
/// With our server at the other end of both clients.
const ESP: Target = Some((3.0, 3.0));
const HALF_OF_WIRE: Target = Some((0.45, 0.35));

impl Case {
    pub(crate) const ALL: [Self; 33] = [
        Self::DtlsUp,
        Self::DtlsDown,
        Self::DtlsFourUp,
        Self::DtlsFourDown,
        Self::TlsUp,
        Self::TlsDown,
        Self::PacketsUp,
        Self::PlainUp,
        Self::PlainDown,
        Self::PlainFourUp,
        Self::PlainFourDown,
        Self::LossUp,
        Self::LossDown,
        Self::JunkUp,
        Self::JunkDown,
        Self::ClientCpuUp,
        Self::ServerCpuUp,
        Self::ClientCpuDown,
        Self::ServerCpuDown,
        Self::MixedClientCpuUp,
        Self::MixedClientCpuDown,
        Self::MixedServerCpuUp,
        Self::MixedServerCpuDown,
        Self::EspUp,
        Self::EspDown,
        Self::EspCpuUp,
        Self::EspCpuDown,
        Self::Ping,
        Self::PingLoadedUp,
        Self::PingLoadedDown,
        Self::ClientMemory,
        Self::SessionMemory,
        Self::Logins,
    ];

    pub(crate) const fn facts(self) -> Facts {
        match self {
            Self::DtlsUp => more("DTLS, one TCP stream up", "Gbit/s", Some((5.0, 4.0))),
            Self::DtlsDown => more("DTLS, one TCP stream down", "Gbit/s", Some((4.0, 3.0))),
            Self::DtlsFourUp => Facts {
                of_wire: HALF_OF_WIRE,
                ..more("DTLS, four TCP streams up", "Gbit/s", Some((5.0, 4.0)))
            },
            Self::DtlsFourDown => Facts {
                of_wire: HALF_OF_WIRE,
                ..more("DTLS, four TCP streams down", "Gbit/s", Some((5.0, 4.0)))
            },
            Self::TlsUp => more("TLS only, one TCP stream up", "Gbit/s", Some((4.0, 3.0))),
            Self::TlsDown => more("TLS only, one TCP stream down", "Gbit/s", Some((4.0, 3.0))),
            Self::PacketsUp => more("DTLS, UDP packets of 200 bytes up", "packets/s", Some((2.5, 1.8))),
            Self::PlainUp => more("the first, on a wire without offload", "Gbit/s", None),
            Self::PlainDown => more("the second, on a wire without offload", "Gbit/s", None),
            Self::PlainFourUp => more("four streams up, on a wire without offload", "Gbit/s", None),
            Self::PlainFourDown => more("four streams down, on a wire without offload", "Gbit/s", None),
            Self::LossUp => more("the first, without offload and with 1 % loss", "Gbit/s", None),
            Self::LossDown => more("the second, without offload and with 1 % loss", "Gbit/s", None),
            Self::JunkUp => Facts {
                absolute: JUNK,
                ..more(
                    "the first beside 100,000 datagrams of strangers per second",
                    "% left",
                    None,
                )
            },
            Self::JunkDown => Facts {
                absolute: JUNK,
                ..more(
                    "the second beside 100,000 datagrams of strangers per second",
                    "% left",
                    None,
                )
            },
            Self::ClientCpuUp => less("client CPU, sending", "s/Gbit", CPU),
            Self::ServerCpuUp => less("server CPU, receiving", "s/Gbit", CPU),
            Self::ClientCpuDown => less("client CPU, receiving", "s/Gbit", CPU),
            Self::ServerCpuDown => less("server CPU, sending", "s/Gbit", CPU),
            Self::MixedClientCpuUp => less("our client with the real server, sending", "s/Gbit", MIXED_CPU),
            Self::MixedClientCpuDown => {
                less("our client with the real server, receiving", "s/Gbit", MIXED_CPU)
            }
            Self::MixedServerCpuUp => less("our server with the real client, receiving", "s/Gbit", MIXED_CPU),
            Self::MixedServerCpuDown => less("our server with the real client, sending", "s/Gbit", MIXED_CPU),
            Self::EspUp => more("GlobalProtect client over ESP, one TCP stream up", "Gbit/s", ESP),
            Self::EspDown => more(
                "GlobalProtect client over ESP, one TCP stream down",
                "Gbit/s",
                ESP,
            ),
            Self::EspCpuUp => less("GlobalProtect client's CPU, sending", "s/Gbit", ESP),
            Self::EspCpuDown => less("GlobalProtect client's CPU, receiving", "s/Gbit", ESP),
            Self::Ping => less("ping, idle", "ms", Some((1.0, 1.0 / 1.5))),
            Self::PingLoadedUp => less("ping beside one TCP stream up", "ms", Some((1.0, 1.0))),
            Self::PingLoadedDown => less("ping beside one TCP stream down", "ms", Some((1.0, 1.0))),
            Self::ClientMemory => Facts {
                absolute: Some((5.0, 8.0)),
                ..less("idle client, PSS", "MB", None)
            },
            Self::SessionMemory => Facts {
                absolute: Some((0.6, 0.8)),
                ..less("one more idle session on the server, PSS", "MB", None)
            },
            Self::Logins => more("logins, one after the other", "per s", Some((4.0, 2.0))),
        }
    }

    /// The case of the real pair that this one is compared with.
    pub(crate) fn reference(self) -> Self {
        match self {
            Self::MixedClientCpuUp => Self::ClientCpuUp,
            Self::MixedClientCpuDown => Self::ClientCpuDown,
            Self::MixedServerCpuUp => Self::ServerCpuUp,
            Self::MixedServerCpuDown => Self::ServerCpuDown,
            case => case,
        }
    }
}

/// Every measured value of one side.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<Case, Vec<f64>>);

impl Results {
    pub(crate) fn add(&mut self, case: Case, value: f64) {
        self.0.entry(case).or_default().push(value);
    }

    pub(crate) fn latest(&self, case: Case) -> Option<f64> {
        self.0.get(&case)?.last().copied()
    }

    pub(crate) fn median(&self, case: Case) -> Option<f64> {
        median(self.0.get(&case)?.clone())
    }
}

/// `None` without values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 {
        upper
    } else {
        (values[middle - 1] + upper) / 2.0
    })
}
