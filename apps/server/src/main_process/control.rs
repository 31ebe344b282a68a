//! Answers for `occtl` (`specs/server-tools.md` §3).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use culvert_control::messages as control;
use culvert_control::messages::{Reply, Request};
use culvert_vocab::UserName;
use tokio::sync::mpsc::UnboundedSender;

use super::state::{Phase, Server, unix_time};
use super::workers::traffic;
use crate::control::ControlRequest;
use crate::ipc::messages::{BrokerAnswer, BrokerQuery, ConnectionId, MainToBroker, SessionSummary};
use crate::ipc::session::CloseReason;
use crate::log::{self, Level};

/// Questions that may wait for the broker at a time.
const QUESTIONS_MAX: usize = 256;

/// Questions of `occtl` that the broker has to answer.
#[derive(Default)]
pub(crate) struct Questions {
    next: u32,
    waiting: HashMap<u32, Question>,
}

struct Question {
    reply: UnboundedSender<Reply>,
    kind: Kind,
}

enum Kind {
    Status(Box<control::Status>),
    Sessions {
        valid_only: bool,
        offset: u32,
    },
    /// How many connections main itself has ended already.
    Terminate {
        ended: usize,
    },
}

impl Server {
    /// Answers a request, or asks the broker first. A listener that is gone misses nothing.
    pub(crate) fn handle_control(&mut self, request: ControlRequest) {
        let ControlRequest { request, reply } = request;
        let done = |worked: bool| {
            let _listener_gone = reply.send(Reply::Done(worked));
        };
        match request {
            Request::Status => {
                let status = self.status();
                self.ask(BrokerQuery::Status, reply, Kind::Status(Box::new(status)));
            }
            Request::Users => self.list(&reply, |_| true),
            Request::User(name) => self.list(&reply, |shown| shown.username.as_deref() == Some(&name)),
            Request::Id(id) => self.list(&reply, |shown| shown.id == id),
            Request::Events => {
                self.list(&reply, |shown| shown.state == control::AuthState::Authenticated);
                self.listeners.push(reply);
            }
            Request::Sessions { valid_only } => self.ask_sessions(0, valid_only, reply),
            Request::Bans => self.bans(&reply),
            Request::Unban(ip) => done(self.unban(ip)),
            Request::DisconnectUser(name) => {
                let ended = self.disconnect(|shown| shown.username.as_deref() == Some(&name));
                done(ended > 0);
            }
            Request::DisconnectId(id) => done(self.disconnect(|shown| shown.id == id) > 0),
            Request::TerminateUser(name) => self.terminate_user(&name, reply),
            Request::TerminateId(id) => self.terminate_id(id, reply),
            Request::TerminateSession(session) => {
                self.ask(
                    BrokerQuery::TerminateSession(session),
                    reply,
                    Kind::Terminate { ended: 0 },
                );
            }
            Request::Reload => {
                done(true);
                self.reload();
            }
            Request::Stop => {
                done(true);
                self.stop();
            }
        }
    }

    /// Ends all sessions of a user with their connections.
    fn terminate_user(&mut self, name: &str, reply: UnboundedSender<Reply>) {
        let Ok(user) = UserName::new(name) else {
            let _listener_gone = reply.send(Reply::Done(false));
            return;
        };
        let ended = self.disconnect(|shown| shown.username.as_deref() == Some(name));
        self.ask(BrokerQuery::TerminateUser(user), reply, Kind::Terminate { ended });
    }

    /// Ends the connection with this id, and its session.
    fn terminate_id(&mut self, id: u32, reply: UnboundedSender<Reply>) {
        let mut connections = self.connections.iter();
        let found = connections.find(|(_, connection)| connection.shown.id == id && id != 0);
        let Some(connection) = found.map(|(name, _)| *name) else {
            let _listener_gone = reply.send(Reply::Done(false));
            return;
        };
        let ended = self.disconnect(|shown| shown.id == id);
        let query = BrokerQuery::TerminateConnection(connection);
        self.ask(query, reply, Kind::Terminate { ended });
    }

    /// The broker's answer to a question.
    pub(crate) fn handle_answer(&mut self, number: u32, answer: BrokerAnswer) {
        let Some(Question { reply, kind }) = self.questions.waiting.remove(&number) else {
            return;
        };
        match (kind, answer) {
            (Kind::Status(mut status), BrokerAnswer::Status(numbers)) => {
                status.secmod_client_entries = numbers.entries.into();
                status.tls_db_entries = numbers.tls_sessions.into();
                let _listener_gone = reply.send(Reply::Status(status));
            }
            (Kind::Sessions { valid_only, offset }, BrokerAnswer::Sessions { total, list }) => {
                let next = offset.saturating_add(u32::try_from(list.len()).unwrap_or(u32::MAX));
                let more = !list.is_empty() && next < total;
                for session in list
                    .into_iter()
                    .filter(|session| session.authenticated || !valid_only)
                {
                    let _listener_gone = reply.send(Reply::Session(Box::new(shown_session(session))));
                }
                if more {
                    self.ask_sessions(next, valid_only, reply);
                } else {
                    let _listener_gone = reply.send(Reply::End);
                }
            }
            (Kind::Terminate { ended }, BrokerAnswer::Terminated(removed)) => {
                let _listener_gone = reply.send(Reply::Done(ended > 0 || removed > 0));
            }
            _ => log::write(
                Level::Error,
                "main: the answer of sec-mod does not fit the question",
            ),
        }
    }

    /// Tells the listeners of `occtl show events`.
    pub(crate) fn announce(&mut self, kind: control::EventKind, connection: control::Connection) {
        let event = Box::new(control::Event { kind, connection });
        self.listeners
            .retain(|listener| listener.send(Reply::Event(event.clone())).is_ok());
    }

    fn ask_sessions(&mut self, offset: u32, valid_only: bool, reply: UnboundedSender<Reply>) {
        let kind = Kind::Sessions { valid_only, offset };
        self.ask(BrokerQuery::Sessions { offset }, reply, kind);
    }

    fn ask(&mut self, query: BrokerQuery, reply: UnboundedSender<Reply>, kind: Kind) {
        if self.questions.waiting.len() >= QUESTIONS_MAX {
            return;
        }
        let number = self.questions.next;
        self.questions.next = number.wrapping_add(1);
        self.questions.waiting.insert(number, Question { reply, kind });
        self.tell_broker(&MainToBroker::Control { number, query });
    }

    fn status(&self) -> control::Status {
        control::Status {
            server_pid: std::process::id(),
            secmod_pid: self.fixed.broker_pid,
            secmod_instances: 1,
            up_since: self.statistics.up_since,
            active_sessions: self.connections.len() as u64,
            total_sessions: self.statistics.total_sessions,
            total_auth_failures: self.statistics.total_failures,
            banned_ips: self.bans.banned_count(Instant::now()) as u64,
            period: self.statistics.period,
            ..control::Status::default()
        }
    }

    fn list(&self, reply: &UnboundedSender<Reply>, wanted: impl Fn(&control::Connection) -> bool) {
        let mut found: Vec<&super::state::Connection> = self
            .connections
            .values()
            .filter(|connection| wanted(&connection.shown))
            .collect();
        found.sort_by_key(|connection| connection.shown.id);
        for connection in found {
            let mut shown = connection.shown.clone();
            if shown.dtls_cipher.is_none() {
                shown.dtls_compression = None;
            }
            if let Phase::Open(_) = connection.phase {
                shown.traffic = Some(traffic(connection.counters));
            }
            let _listener_gone = reply.send(Reply::User(Box::new(shown)));
        }
        let _listener_gone = reply.send(Reply::End);
    }

    fn disconnect(&mut self, wanted: impl Fn(&control::Connection) -> bool) -> usize {
        let list: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.shown.id != 0 && wanted(&connection.shown))
            .map(|(id, _)| *id)
            .collect();
        for id in &list {
            self.log(*id, Level::Info, "disconnecting by request of the administrator");
            self.end(*id, CloseReason::AdminDisconnect);
        }
        list.len()
    }

    fn bans(&self, reply: &UnboundedSender<Reply>) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for entry in self.bans.list(now) {
            let left = entry
                .expires
                .checked_duration_since(now)
                .unwrap_or(Duration::ZERO);
            let banned_until = entry.banned.then(|| unix_time(wall + left));
            let ban = control::Ban {
                ip: entry.address,
                score: entry.score,
                banned_until,
            };
            let _listener_gone = reply.send(Reply::Ban(ban));
        }
        let _listener_gone = reply.send(Reply::End);
    }

    fn unban(&mut self, ip: IpAddr) -> bool {
        let known = self.bans.unban(ip, Instant::now());
        if known {
            log::write(Level::Info, &format!("main: unbanning IP '{ip}'"));
        }
        known
    }
}

fn shown_session(session: SessionSummary) -> control::Session {
    let now = unix_time(SystemTime::now());
    control::Session {
        id: session.id,
        created: now.saturating_sub(session.age_seconds),
        expires: session.expires_in_seconds.map(|left| now.saturating_add(left)),
        state: if session.authenticated {
            control::AuthState::Authenticated
        } else {
            control::AuthState::Authenticating
        },
        username: session.user.map(|user| user.to_string()),
        groupname: session.group.map(|group| group.to_string()),
        vhost: session.host,
        user_agent: Some(session.client.user_agent.as_str().to_owned()).filter(|text| !text.is_empty()),
        remote_ip: Some(session.peer),
        location: None,
        in_use: session.in_use,
        is_open: session.in_use,
        tls_auth_ok: false,
    }
}
