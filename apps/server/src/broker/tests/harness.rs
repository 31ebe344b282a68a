//! A broker in this thread, with the test as its main and its workers.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use culvert_vocab::{SecretString, SessionId};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::super::*;
use crate::ipc::link::{Message, Receiver, Sender};
use crate::ipc::messages::{
    BrokerAnswer, BrokerQuery, BrokerToWorker, ConnectionId, LoginReply, LoginStart, TunnelReply,
    TunnelRequest, WorkerToBroker,
};
use crate::ipc::session::{CloseReason, Counters, VerifiedSession};
use crate::ipc::{SecretText, Text};

pub(super) const HASH_OF_PW: &str = "$5$abcdefgh$ijtOJ//yvc/9bq1g0llFn9dB688BwBDRD90DlKKSKE1";

/// Nothing that a broker answers takes longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Files of a server.
pub(super) struct Files {
    directory: TempDir,
}

impl Files {
    pub(super) fn new(extra: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = Self { directory };
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["vpn.example.com".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        std::fs::write(files.path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(files.path("cert.pem"), certificate.pem()).unwrap();
        let users = format!("test:staff,admins:{HASH_OF_PW}\nalone:*:{HASH_OF_PW}\nother:*:{HASH_OF_PW}\n");
        std::fs::write(files.path("passwd"), users).unwrap();
        files.configure(extra);
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn configure(&self, extra: &str) {
        self.write_configuration("auth = \"plain[passwd=@/passwd]\"", extra);
    }

    /// Configures the methods; `@` stands for the folder.
    pub(super) fn authenticate(&self, methods: &str) {
        self.write_configuration(methods, "");
    }

    fn write_configuration(&self, methods: &str, extra: &str) {
        let at = self.directory.path().display();
        let methods = methods.replace('@', &at.to_string());
        let text = format!(
            "{methods}\ntcp-port = 443\nsocket-file = {at}/socket\ndevice = vpns\n\
             server-cert = {at}/cert.pem\nserver-key = {at}/key.pem\nipv4-network = 10.99.1.0/24\n{extra}\n"
        );
        std::fs::write(self.path("ocserv.conf"), text).unwrap();
    }
}

/// Main, as far as the broker sees it.
pub(super) struct Main {
    sender: Sender,
    receiver: Receiver,
    pub(super) broker: JoinHandle<std::io::Result<ExitCode>>,
    next: u64,
}

impl Main {
    /// Starts a broker, which must become ready.
    pub(super) async fn start(files: &Files) -> Self {
        let mut main = Self::launch(&files.path("ocserv.conf"));
        assert_eq!(main.hear().await, BrokerToMain::Ready);
        main
    }

    pub(super) fn launch(config: &Path) -> Self {
        let (near, far) = Channel::pair().unwrap();
        let broker = tokio::task::spawn_local(serve(config.to_owned(), far.into_fd(), 2));
        let (sender, receiver) = link::split(near).unwrap();
        Self {
            sender,
            receiver,
            broker,
            next: 1,
        }
    }

    pub(super) async fn hear(&mut self) -> BrokerToMain {
        receive(&mut self.receiver).await.expect("the broker ended")
    }

    pub(super) fn tell(&self, message: &MainToBroker) {
        self.sender.send(message, Vec::new()).unwrap();
    }

    pub(super) fn tell_with(&self, message: &MainToBroker, descriptor: OwnedFd) {
        self.sender.send(message, vec![descriptor]).unwrap();
    }

    /// A new connection, before the server name is known.
    pub(super) fn connect_silent(&mut self, peer: &str) -> Worker {
        let id = ConnectionId(self.next);
        self.next += 1;
        let (near, far) = Channel::pair().unwrap();
        let peer = SocketAddr::new(ip(peer), 40_000);
        let local = SocketAddr::new(ip("192.0.2.1"), 443);
        self.sender
            .send(&MainToBroker::Connection { id, peer, local }, vec![far.into_fd()])
            .unwrap();
        let (sender, receiver) = link::split(near).unwrap();
        Worker { id, sender, receiver }
    }

    /// A new connection to the default host.
    pub(super) async fn connect(&mut self, peer: &str) -> Worker {
        let mut worker = self.connect_silent(peer);
        worker.ask(WorkerToBroker::ServerName(None)).await;
        worker
    }

    pub(super) fn close(&self, worker: Worker, reason: CloseReason) {
        self.tell(&MainToBroker::ConnectionClosed {
            id: worker.id,
            reason,
            counters: Counters::default(),
        });
    }

    /// Logs `user` in on a new connection.
    pub(super) async fn log_in(&mut self, user: &str) -> (Worker, SessionId) {
        let mut worker = self.connect("198.51.100.1").await;
        let LoginReply::Success { cookie, .. } = worker.login(user, Some("pw")).await else {
            panic!("{user} cannot log in");
        };
        assert!(matches!(self.hear().await, BrokerToMain::LoggedIn { .. }));
        (worker, cookie)
    }

    /// Opens the tunnel of a session on a new connection.
    pub(super) async fn open(
        &mut self,
        cookie: &SessionId,
        peer: &str,
    ) -> Result<(Worker, VerifiedSession), Worker> {
        let mut worker = self.connect(peer).await;
        match worker.open(cookie).await {
            BrokerToWorker::Tunnel(TunnelReply::Accepted) => {}
            BrokerToWorker::Tunnel(TunnelReply::Refused(_)) => {
                self.hear_failure(&worker, false).await;
                return Err(worker);
            }
            other => panic!("{other:?}"),
        }
        match self.hear().await {
            BrokerToMain::OpenTunnel { id, session, .. } if id == worker.id => Ok((worker, *session)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn query(&mut self, query: BrokerQuery) -> BrokerAnswer {
        self.tell(&MainToBroker::Control { number: 7, query });
        match self.hear().await {
            BrokerToMain::ControlReply { number: 7, reply } => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The broker must say that a login of this worker has failed.
    pub(super) async fn hear_failure(&mut self, worker: &Worker, points: bool) {
        let failed = BrokerToMain::LoginFailed {
            id: worker.id,
            points,
        };
        assert_eq!(self.hear().await, failed);
    }

    /// The broker must ask for this worker's end.
    pub(super) async fn expect_kill(&mut self, worker: &mut Worker) -> String {
        let BrokerToMain::Kill { id, why } = self.hear().await else {
            panic!("no kill")
        };
        assert_eq!(id, worker.id);
        assert!(
            receive::<BrokerToWorker>(&mut worker.receiver).await.is_none(),
            "and not answer it"
        );
        why.to_string()
    }
}

/// A worker, as far as the broker sees it.
pub(super) struct Worker {
    pub(super) id: ConnectionId,
    sender: Sender,
    receiver: Receiver,
}

impl Worker {
    pub(super) fn say(&self, request: &WorkerToBroker) {
        self.sender.send(request, Vec::new()).unwrap();
    }

    pub(super) async fn reply(&mut self) -> BrokerToWorker {
        receive(&mut self.receiver).await.expect("the broker hung up")
    }

    pub(super) async fn ask(&mut self, request: WorkerToBroker) -> BrokerToWorker {
        self.say(&request);
        self.reply().await
    }

    pub(super) async fn login_with(&mut self, start: LoginStart) -> LoginReply {
        match self.ask(WorkerToBroker::Login(start)).await {
            BrokerToWorker::Login(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn login(&mut self, user: &str, password: Option<&str>) -> LoginReply {
        self.login_with(start(user, password)).await
    }

    pub(super) async fn answer(&mut self, password: &str) -> LoginReply {
        self.say_answer(password);
        self.login_reply().await
    }

    pub(super) fn say_answer(&self, password: &str) {
        self.say(&WorkerToBroker::LoginAnswer(secret(password)));
    }

    pub(super) async fn login_reply(&mut self) -> LoginReply {
        match self.reply().await {
            BrokerToWorker::Login(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn resume(&mut self, context: &SessionId, password: &str) -> LoginReply {
        let request = WorkerToBroker::LoginResume {
            context: context.clone(),
            answer: secret(password),
        };
        match self.ask(request).await {
            BrokerToWorker::Login(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn open(&mut self, cookie: &SessionId) -> BrokerToWorker {
        self.ask(WorkerToBroker::OpenTunnel(tunnel_request(cookie))).await
    }
}

pub(super) fn tunnel_request(cookie: &SessionId) -> TunnelRequest {
    TunnelRequest {
        cookie: cookie.clone(),
        claims: Default::default(),
        client: Default::default(),
        hostname: Some(Text::truncated("laptop")),
        ipv4: true,
        ipv6: true,
        udp: true,
        tls: Text::default(),
    }
}

pub(super) fn start(user: &str, password: Option<&str>) -> LoginStart {
    LoginStart {
        user: Text::truncated(user),
        password: password.map(secret),
        group: None,
        client: Default::default(),
        repeatable: false,
    }
}

pub(super) fn secret(text: &str) -> SecretText<4096> {
    SecretText::new(SecretString::from(text)).unwrap()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) async fn receive<M: Message>(receiver: &mut Receiver) -> Option<M> {
    let received = tokio::time::timeout(PATIENCE, receiver.receive())
        .await
        .expect("no answer");
    received.unwrap().map(|(message, _)| message)
}
