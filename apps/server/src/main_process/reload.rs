//! Reading the configuration again, and what workers get to see of it
//! (`specs/server-config.md` §5).

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use culvert_certs::{CertificateChain, staple_until, subjects_of_pem};
use culvert_password_file::PasswordFile;
use culvert_server_config::{AuthConfig, AuthMethod, CertificateRequest, Config, Global, Host};
use culvert_sys::user;
use culvert_vocab::{GroupName, HttpScheme};

use super::accept::Arrival;
use super::service_manager;
use super::state::{Server, ban_policy};
use crate::ipc::fields::Bytes;
use crate::ipc::link::LinkError;
use crate::ipc::messages::{MainToBroker, MainToZygote};
use crate::ipc::snapshot::{CamouflageSnapshot, ClientCertificates, HostSnapshot, LoginOffer, Snapshot};
use crate::log::{self, Level};
use crate::startup::USUAL_CLIENTS;

/// Octets of a snapshot per message.
const PIECE: usize = 65536;
/// What a worker may use for its client, in octets (`limit-worker-memory`).
const WORKER_MEMORY: u64 = 64 << 20;
/// What a pool process may use for one more client, in octets: ten times what an idle one needs.
const CLIENT_MEMORY: u64 = 256 << 10;
/// Time between two looks at the files of certificates.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that may wait for the end of a reload.
const HELD_MAX: usize = 1024;

/// A reload that the broker has not confirmed yet. Connections wait meanwhile: broker and workers
/// must agree about the configuration that a connection belongs to.
pub(crate) struct Reloading {
    config: Rc<Config>,
    snapshot: Snapshot,
    held: Vec<Arrival>,
    again: bool,
}

impl Reloading {
    /// Keeps a connection until the reload is over. Too many are closed.
    pub(crate) fn hold(&mut self, arrival: Arrival) {
        if self.held.len() < HELD_MAX {
            self.held.push(arrival);
        }
    }
}

/// What the public part of a configuration cannot be made of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// A file cannot be read.
    #[error("error: cannot open file '{file}': {cause}")]
    Read {
        /// Which.
        file: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// A certificate file holds no usable certificates.
    #[error("error: certificate file '{file}': {cause}")]
    Certificate {
        /// Which.
        file: String,
        /// Why not.
        cause: culvert_certs::CertError,
    },
    /// It does not fit a message.
    #[error("error: the configuration cannot be passed to the workers: {0}")]
    Encode(#[from] LinkError),
}

impl Server {
    /// Reads the file again. With an error in it the present configuration stays.
    pub(crate) fn reload(&mut self) {
        if let Some(reloading) = &mut self.reloading {
            reloading.again = true;
            return;
        }
        log::write(Level::Info, "main: reloading configuration");
        service_manager::reloading();
        let loaded = match Config::load(&self.config_path) {
            Ok((config, _notes_were_printed_at_the_start)) => config,
            Err(error) => return keep_old(&error.to_string()),
        };
        let snapshot = match snapshot(&loaded, self.fixed.log_level) {
            Ok(snapshot) => snapshot,
            Err(error) => return keep_old(&error.to_string()),
        };
        self.begin(Rc::new(loaded), snapshot, &MainToBroker::Reload);
    }

    fn begin(&mut self, config: Rc<Config>, snapshot: Snapshot, message: &MainToBroker) {
        // Before the broker reads them: what changes meanwhile is read once more.
        self.certificate_times = certificate_times(&config);
        self.reloading = Some(Reloading {
            config,
            snapshot,
            held: Vec::new(),
            again: false,
        });
        self.tell_broker(message);
    }

    /// Reads certificates and keys again that have been changed since (at most once a second). What
    /// does not belong together, e.g. the new certificate without its key, is left until it does.
    pub(crate) fn follow_certificates(&mut self, now: Instant) {
        if self.reloading.is_some() || now < self.certificates_checked + CHECK_INTERVAL {
            return;
        }
        self.certificates_checked = now;
        let present = certificate_times(&self.config);
        if present == self.certificate_times {
            return;
        }
        self.certificate_times = present;
        log::write(Level::Info, "main: certificates have changed: reading them again");
        match snapshot(&self.config, self.fixed.log_level) {
            Ok(snapshot) => self.begin(Rc::clone(&self.config), snapshot, &MainToBroker::ReloadFiles),
            Err(error) => keep_old(&error.to_string()),
        }
    }

    /// Maintenance: an OCSP response that was fetched meanwhile is sent from now on.
    pub(crate) fn refresh_staples(&mut self) {
        let present = staple_times(&self.config);
        if present == self.staple_times || self.reloading.is_some() {
            return;
        }
        self.staple_times = present;
        let given = snapshot(&self.config, self.fixed.log_level).and_then(|snapshot| {
            send_snapshot(&snapshot, |message| {
                self.zygotes.sender().send(message, Vec::new())
            })
        });
        match given {
            Ok(()) => log::write(Level::Info, "main: OCSP responses were read again"),
            Err(error) => log::write(Level::Warning, &format!("main: OCSP responses: {error}")),
        }
    }

    /// The broker has read the configuration, or refused it.
    pub(crate) fn finish_reload(&mut self, refused: Option<String>) {
        let Some(reloading) = self.reloading.take() else {
            return;
        };
        match refused {
            Some(why) => keep_old(&why),
            None => match send_snapshot(&reloading.snapshot, |message| {
                self.zygotes.sender().send(message, Vec::new())
            }) {
                Ok(()) => {
                    self.config = reloading.config;
                    self.staple_times = staple_times(&self.config);
                    self.bans.set_policy(ban_policy(&self.config));
                    self.admission.follow(&self.config.global);
                    self.renew_zygote();
                }
                Err(error) => keep_old(&error.to_string()),
            },
        }
        service_manager::ready();
        for arrival in reloading.held {
            self.handle_accepted(arrival);
        }
        if reloading.again {
            self.reload();
        }
    }
}

fn keep_old(why: &str) {
    for line in why.lines() {
        log::write(Level::Error, &format!("main: {line}"));
    }
    log::write(Level::Error, "main: the old configuration stays in force");
    service_manager::ready();
}

/// Gives the zygote a snapshot, piece by piece.
///
/// # Errors
/// It cannot be encoded or sent.
pub(crate) fn send_snapshot(
    snapshot: &Snapshot,
    mut send: impl FnMut(&MainToZygote) -> Result<(), LinkError>,
) -> Result<(), SnapshotError> {
    let bytes = encode_snapshot(snapshot)?;
    let count = bytes.len().div_ceil(PIECE);
    for (index, piece) in bytes.chunks(PIECE).enumerate() {
        let piece = Bytes::new(piece.to_vec()).unwrap_or_default();
        send(&MainToZygote::Snapshot {
            piece,
            last: index + 1 == count,
        })?;
    }
    Ok(())
}

/// Memory for all clients that the server may have: the others of the pool may be gone.
fn pool_memory(global: &Global) -> u64 {
    WORKER_MEMORY + CLIENT_MEMORY * global.max_clients.map_or(USUAL_CLIENTS, u64::from)
}

fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, LinkError> {
    postcard::to_stdvec(snapshot).map_err(|error| crate::ipc::Malformed::Encoding(error).into())
}

/// The public part of a configuration, with the log level in force. Reads certificates, profiles and group names.
///
/// # Errors
/// See [`SnapshotError`].
pub(crate) fn snapshot(config: &Config, log_level: u8) -> Result<Snapshot, SnapshotError> {
    Ok(Snapshot {
        hosts: config
            .hosts()
            .map(|host| host_snapshot(&config.global, host))
            .collect::<Result<_, _>>()?,
        auth_timeout: config.global.auth_timeout,
        log_level,
        memory_limit: config.global.limit_worker_memory.then_some(WORKER_MEMORY),
        pool_memory_limit: config
            .global
            .limit_worker_memory
            .then_some(pool_memory(&config.global)),
        isolate_workers: config.global.isolate_workers,
        dtls_psk: config.global.dtls_psk && config.global.udp_port.is_some(),
        globalprotect: config.global.serves_globalprotect(),
        try_mtu_discovery: config.global.try_mtu_discovery,
    })
}

fn host_snapshot(global: &Global, host: &Host) -> Result<HostSnapshot, SnapshotError> {
    let (chains, certificate_sha1) = chains(host)?;
    let profile = profile(host)?;
    let ocsp = host
        .ocsp_response
        .as_deref()
        .zip(chains.first().and_then(|chain| chain.first()))
        .and_then(|(path, leaf)| staple(path, leaf));
    Ok(HostSnapshot {
        name: host.display_name().to_owned(),
        chains,
        ocsp,
        certificate_sha1,
        tls_priorities: host.tls_priorities.clone(),
        client_certificates: client_certificates(host)?,
        login: login_offer(&host.auth, false),
        pre_login_banner: host.pre_login_banner.clone(),
        banner: host.banner.clone(),
        groups: offered_groups(host),
        default_group: host.default_select_group.clone(),
        kkdcp: host
            .kkdcp
            .iter()
            .map(|line| (line.path.clone(), line.realm.clone()))
            .collect(),
        select_group_by_url: host.select_group_by_url,
        camouflage: host
            .camouflage_secret
            .clone()
            .filter(|_| host.camouflage)
            .map(|secret| CamouflageSnapshot {
                secret,
                realm: host.camouflage_realm.clone(),
            }),
        cookie_timeout: host.cookie_timeout,
        included_headers: host.included_http_headers.clone(),
        profile,
        rekey_method: host.rekey_method,
        match_tls_dtls_ciphers: host.match_tls_dtls_ciphers,
        dtls_legacy: host.dtls_legacy,
        host_reports: host.host_reports,
        phones: host.cisco_svc_client_compat,
        compression: if host.compression {
            global.compression_algo_priority.clone()
        } else {
            Vec::new()
        },
        no_compress_limit: host.no_compress_limit,
    })
}

/// A certificate and those that vouch for it, in DER.
type Chain = Vec<Vec<u8>>;

/// The chains of the server's certificates, and the hash of the first certificate.
fn chains(host: &Host) -> Result<(Vec<Chain>, [u8; 20]), SnapshotError> {
    let mut chains = Vec::new();
    // Main has no keys: the broker checks that they fit the certificates that are taken for leaves.
    let mut sha1 = None;
    for path in &host.server_cert {
        let chain = CertificateChain::from_pem_without_key(&read(path)?).map_err(|cause| {
            SnapshotError::Certificate {
                file: path.display().to_string(),
                cause,
            }
        })?;
        sha1.get_or_insert_with(|| chain.leaf_sha1());
        let certificates = chain.certificates().iter();
        chains.push(certificates.map(|der| der.as_ref().to_vec()).collect());
    }
    Ok((chains, sha1.unwrap_or_default()))
}

/// The file of `user-profile`, with its name.
fn profile(host: &Host) -> Result<Option<(String, Vec<u8>)>, SnapshotError> {
    let Some(path) = &host.session.user_profile else {
        return Ok(None);
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Some((name.unwrap_or_default(), read(path)?)))
}

/// How clients are asked for certificates.
fn client_certificates(host: &Host) -> Result<Option<ClientCertificates>, SnapshotError> {
    let request = host.auth.certificate_request(host.cisco_client_compat);
    let (Some(path), CertificateRequest::Optional | CertificateRequest::Required) = (&host.ca_cert, request)
    else {
        return Ok(None);
    };
    let issuers = subjects_of_pem(&read(path)?).map_err(|cause| SnapshotError::Certificate {
        file: path.display().to_string(),
        cause,
    })?;
    Ok(Some(ClientCertificates {
        mandatory: request == CertificateRequest::Required,
        issuers,
        login: login_offer(&host.auth, true),
    }))
}

/// What clients with or without a certificate may log in with: all methods of the entries that are
/// for them, or of the first one with a certificate (`specs/server-auth.md` §1.3).
fn login_offer(auth: &AuthConfig, certificate: bool) -> LoginOffer {
    let entries = auth
        .entries()
        .filter(|entry| entry.contains(&AuthMethod::Certificate) == certificate);
    let methods: Vec<_> = if certificate {
        entries.take(1).flatten().collect()
    } else {
        entries.flatten().collect()
    };
    let others = || {
        methods
            .iter()
            .filter(|method| ***method != AuthMethod::Certificate)
    };
    LoginOffer {
        form: others().any(|method| method.http_scheme().is_none()),
        http: others().filter_map(|method| method.http_scheme()).collect(),
        http_first: others()
            .next()
            .is_some_and(|method| method.http_scheme() == Some(HttpScheme::Bearer)),
    }
}

/// When the files of `ocsp-response` were changed last.
pub(crate) fn staple_times(config: &Config) -> Vec<Option<SystemTime>> {
    let changed = |host: &Host| fs::metadata(host.ocsp_response.as_ref()?).ok()?.modified().ok();
    config.hosts().map(changed).collect()
}

/// When the files of certificates and keys were changed last.
pub(crate) fn certificate_times(config: &Config) -> Vec<Option<SystemTime>> {
    let changed = |path: &Path| fs::metadata(path).ok()?.modified().ok();
    let of_host = |host: &Host| {
        let certificates = host.server_cert.iter().chain(&host.ca_cert);
        let keys = host.server_key.iter().map(Path::new);
        let files = certificates.map(PathBuf::as_path).chain(keys);
        files.map(changed).collect::<Vec<_>>()
    };
    config.hosts().flat_map(of_host).collect()
}

/// The response of `ocsp-response`, if it is worth sending. A bad one is only a warning: clients take
/// the certificate without it, too.
fn staple(path: &Path, leaf: &[u8]) -> Option<(Vec<u8>, Option<SystemTime>)> {
    let judged = fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|response| {
            let until =
                staple_until(&response, leaf, SystemTime::now()).map_err(|error| error.to_string())?;
            Ok((response, until))
        });
    judged
        .inspect_err(|why| {
            let path = path.display();
            log::write(
                Level::Warning,
                &format!("main: ocsp-response '{path}' is not sent: {why}"),
            );
        })
        .ok()
}

/// Groups of the system that a form offers.
const SYSTEM_GROUPS_MAX: usize = 512;

/// Groups of the login form: the configured ones, or with `auto-select-group` those of the first
/// method's own list.
fn offered_groups(host: &Host) -> Vec<(GroupName, String)> {
    if !host.auto_select_group {
        return host
            .select_group
            .iter()
            .map(|group| (group.name.clone(), group.label.clone()))
            .collect();
    }
    let path = match host.auth.required.first() {
        Some(AuthMethod::Plain {
            passwd: Some(path), ..
        }) => path,
        Some(AuthMethod::Pam { gid_min, .. } | AuthMethod::Gssapi { gid_min, .. }) => {
            return user::groups_from(gid_min.unwrap_or(0), SYSTEM_GROUPS_MAX)
                .into_iter()
                .filter_map(|group| Some((GroupName::new(&group.name).ok()?, group.name)))
                .collect();
        }
        _ => return Vec::new(),
    };
    let file = match fs::read(path) {
        Ok(text) => PasswordFile::parse(&text),
        Err(error) => {
            log::write(
                Level::Warning,
                &format!("main: auto-select-group: {}: {error}", path.display()),
            );
            return Vec::new();
        }
    };
    let names = file
        .groups()
        .into_iter()
        .filter_map(|name| GroupName::new(name).ok());
    names.map(|name| (name.clone(), name.to_string())).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    fs::read(path).map_err(|cause| SnapshotError::Read {
        file: path.display().to_string(),
        cause,
    })
}
