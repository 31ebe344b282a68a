//! What the broker says, and what it is told.

use std::net::IpAddr;
use std::time::Instant;

use culvert_control::messages as control;
use culvert_vocab::UserName;
use tokio::sync::{mpsc, oneshot};

use super::state::{Event, Phase, Server, Stage};
use crate::bans::Verdict;
use crate::ipc::link::Receiver;
use crate::ipc::messages::{BrokerToMain, ConnectionId, MainToBroker};
use crate::ipc::session::CloseReason;
use crate::log::{self, Level};

/// Passes on what the broker says, and then its end. `_ended` is dropped with that.
pub(super) async fn watch(mut receiver: Receiver, events: mpsc::Sender<Event>, _ended: oneshot::Sender<()>) {
    let why = loop {
        match receiver.receive::<BrokerToMain>().await {
            Ok(Some((message, _))) => {
                if events.send(Event::Broker(message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => break "it ended".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let _main_is_over = events.send(Event::BrokerGone(why)).await;
}

impl Server {
    /// What the broker says.
    pub(crate) fn handle_broker(&mut self, message: BrokerToMain) {
        match message {
            BrokerToMain::Ready => {}
            BrokerToMain::Failed(why) => log::write(Level::Error, &format!("main: sec-mod: {why}")),
            BrokerToMain::Reloaded(refused) => {
                self.finish_reload(refused.map(|text| text.as_str().to_owned()))
            }
            BrokerToMain::OpenTunnel { id, session, wish } => self.open_tunnel(id, *session, wish),
            BrokerToMain::LoggedIn {
                id,
                user,
                group,
                host,
                took_ms,
            } => {
                self.statistics.login(took_ms);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.shown.username = Some(user.to_string());
                    connection.shown.groupname = group.map(|group| group.to_string());
                    connection.shown.vhost = host.as_str().to_owned();
                    connection.shown.state = control::AuthState::Authenticating;
                }
            }
            BrokerToMain::TooManyClients { id, user, host, max } => {
                self.too_many_clients(id, &user, host.as_str(), max);
            }
            BrokerToMain::LoginFailed { id, points } => self.login_failed(id, points),
            BrokerToMain::KdcAsked(id) => self.punish(id, self.config.global.ban.points_kkdcp),
            BrokerToMain::Busy(busy) => self.handle_load(busy),
            BrokerToMain::Kill { id, why } => self.handle_broken_worker(id, why.as_str()),
            BrokerToMain::Disconnect(list) => {
                for id in list {
                    self.end(id, CloseReason::AdminDisconnect);
                }
            }
            BrokerToMain::ControlReply { number, reply } => self.handle_answer(number, reply),
        }
    }

    /// The broker has refused a user's tunnel: he has as many as he may have.
    fn too_many_clients(&mut self, id: ConnectionId, user: &UserName, host: &str, max: u32) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.shown.username = Some(user.to_string());
        connection.shown.vhost = host.to_owned();
        connection.phase = Phase::Ending;
        for text in [
            "new user session".to_owned(),
            format!("user tried to connect more than {max} times"),
            format!("failed authentication attempt for user '{user}'"),
        ] {
            self.log(id, Level::Info, &text);
        }
    }

    fn login_failed(&mut self, id: ConnectionId, points: bool) {
        self.statistics.login_failed();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.shown.state = control::AuthState::Failed;
        }
        if points {
            self.punish(id, self.config.global.ban.points_wrong_password);
        }
    }

    /// Adds ban points to the source of a connection, also of one that has gone meanwhile: whoever leaves
    /// with the answer must not get away with it.
    fn punish(&mut self, id: ConnectionId, points: u32) {
        let departed = || self.departed.iter().rev().find(|(gone, _)| *gone == id);
        let Some(ip) = self
            .connections
            .get(&id)
            .map(|connection| connection.peer.ip())
            .or_else(|| departed().map(|(_, ip)| *ip))
        else {
            return;
        };
        let verdict = self.bans.misbehaviour(ip, points, Instant::now());
        self.report_points(ip, points, verdict);
        if verdict.banned {
            self.tell_broker(&MainToBroker::Banned(ip));
        }
    }

    /// Logs what points did to an address.
    pub(crate) fn report_points(&self, ip: IpAddr, points: u32, verdict: Verdict) {
        if verdict.newly_banned {
            let until = chrono::Local::now() + self.config.global.ban.time;
            let until = until.format("%a %b %e %H:%M:%S %Y");
            let score = verdict.score;
            let text = format!("added IP '{ip}' (with score {score}) to ban list, will be reset at: {until}");
            log::write(Level::Info, &format!("main: {text}"));
        } else if points > 0 && verdict.score > 0 {
            let total = verdict.score;
            log::write(
                Level::Debug,
                &format!("main: added {points} points (total {total}) for IP '{ip}' to ban list"),
            );
        }
    }

    /// Sends the broker a message. A broker that cannot be reached is the end of the server.
    pub(crate) fn tell_broker(&mut self, message: &MainToBroker) {
        if let Err(error) = self.broker.send(message, Vec::new())
            && self.stage < Stage::Stopping
        {
            self.handle_broker_gone(&error.to_string());
        }
    }
}
