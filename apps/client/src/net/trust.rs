//! Which server certificates are accepted (`specs/client.md` §7).

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use culvert_certs::{Anchors, Host, Pins, Policy, PolicySettings, Presented, certificate_text, spki_pin};
use culvert_tls::{Algorithms, ClientSettings};
#[cfg(feature = "legacy-tls")]
use culvert_tls_legacy::{LegacySettings, OldestVersion};
use culvert_wire::url::ServerUrl;

use crate::options::TrustOptions;
use crate::output::{Output, printable};
use crate::prompt::{AskError, Asker, Console, reason};

/// The user's trust: anchors, pins and what was answered to questions in this run.
#[derive(Debug)]
pub(crate) struct Trust {
    options: TrustOptions,
    console: Console,
    output: Arc<Output>,
    anchors: OnceLock<Arc<Anchors>>,
    /// Host, port and leaf certificate that the user has accepted.
    accepted: Mutex<HashSet<(String, u16, Vec<u8>)>>,
    /// Servers that get no post-quantum key share.
    classical: Mutex<HashSet<(String, u16)>>,
    /// Servers that OpenSSL talks to.
    legacy: Mutex<HashSet<(String, u16)>>,
    /// Standard input ended when the user was asked about a certificate.
    no_input: AtomicBool,
}

impl Trust {
    /// Trust as the options say.
    pub(crate) fn new(options: TrustOptions, console: Console, output: Arc<Output>) -> Arc<Self> {
        Arc::new(Self {
            options,
            console,
            output,
            anchors: OnceLock::new(),
            accepted: Mutex::default(),
            classical: Mutex::default(),
            legacy: Mutex::default(),
            no_input: AtomicBool::new(false),
        })
    }

    /// The name that the certificate of `host` is checked against and that TLS announces.
    pub(super) fn checked_name<'a>(&'a self, host: &'a str) -> &'a str {
        self.options.sni.as_deref().unwrap_or(host)
    }

    /// TLS settings for a connection to `server`.
    ///
    /// # Errors
    /// The text to show.
    pub(super) fn settings(self: &Arc<Self>, server: &ServerUrl) -> Result<ClientSettings, String> {
        let algorithms = match &self.options.priorities {
            Some(priorities) => Algorithms::of_priorities(priorities),
            None => Algorithms::default(),
        };
        Ok(ClientSettings {
            verifier: Arc::new(self.policy(server)?),
            identity: None,
            algorithms: match self.offers_post_quantum(server) {
                true => algorithms,
                false => algorithms.without_post_quantum(),
            },
        })
    }

    /// Settings of OpenSSL for a connection to `server`.
    ///
    /// # Errors
    /// The text to show.
    #[cfg(feature = "legacy-tls")]
    pub(super) fn legacy_settings(self: &Arc<Self>, server: &ServerUrl) -> Result<LegacySettings, String> {
        Ok(LegacySettings {
            verifier: Arc::new(self.policy(server)?),
            identity: None,
            insecure: self.options.allow_insecure_crypto,
            forward_secrecy: self.options.forward_secrecy || !self.allows_static_rsa(),
            oldest: match &self.options.priorities {
                Some(priorities) if !priorities.allows_protocol("TLS1.0") => {
                    match priorities.allows_protocol("TLS1.1") {
                        true => OldestVersion::Tls11,
                        false => OldestVersion::Tls12,
                    }
                }
                _ => OldestVersion::Tls10,
            },
        })
    }

    /// What may help when no handshake with a server succeeds, even with OpenSSL.
    pub(super) fn hint_for_old_servers(&self) -> Option<String> {
        let mut hints = Vec::new();
        if !self.options.allow_insecure_crypto {
            hints.push("a server that only knows 3DES, RC4 or SHA-1 needs --allow-insecure-crypto");
        }
        if self.options.forward_secrecy {
            hints.push("one that only knows static RSA cannot be used with --pfs");
        }
        (!hints.is_empty()).then(|| format!("If there is no TLS in common: {}", hints.join(", ")))
    }

    /// False when `--gnutls-priority` leaves it out.
    #[cfg(feature = "legacy-tls")]
    fn allows_static_rsa(&self) -> bool {
        let priorities = self.options.priorities.as_ref();
        priorities.is_none_or(|priorities| priorities.key_exchanges().any(|name| name == "RSA"))
    }

    /// The check of certificates of `server`.
    fn policy(self: &Arc<Self>, server: &ServerUrl) -> Result<Policy, String> {
        let trust = Arc::clone(self);
        let (host, port) = (server.host_name().to_owned(), server.port);
        Ok(Policy::new(PolicySettings {
            host: Host::new(self.checked_name(&host)),
            host_is_sni: self.options.sni.is_some(),
            anchors: self.anchors()?,
            allow_insecure_crypto: self.options.allow_insecure_crypto,
            decide: Arc::new(move |presented| trust.accepts(&host, port, presented)),
        }))
    }

    /// True after [`Self::use_legacy`].
    pub(super) fn wants_legacy(&self, server: &ServerUrl) -> bool {
        let legacy = self.legacy.lock().unwrap_or_else(PoisonError::into_inner);
        legacy.contains(&(server.host.clone(), server.port))
    }

    /// Remembers that rustls cannot talk to `server`. False when that was known already, or when
    /// this program has no other TLS.
    pub(super) fn use_legacy(&self, server: &ServerUrl) -> bool {
        let mut legacy = self.legacy.lock().unwrap_or_else(PoisonError::into_inner);
        cfg!(feature = "legacy-tls") && legacy.insert((server.host.clone(), server.port))
    }

    /// Undoes [`Self::use_legacy`].
    pub(super) fn forget_legacy(&self, server: &ServerUrl) {
        let mut legacy = self.legacy.lock().unwrap_or_else(PoisonError::into_inner);
        legacy.remove(&(server.host.clone(), server.port));
    }

    /// True until [`Self::avoid_post_quantum`].
    pub(super) fn offers_post_quantum(&self, server: &ServerUrl) -> bool {
        let avoided = self.classical.lock().unwrap_or_else(PoisonError::into_inner);
        !avoided.contains(&(server.host.clone(), server.port))
    }

    /// Remembers that `server` did not answer a ClientHello with a post-quantum key share. False
    /// when that was known already.
    pub(super) fn avoid_post_quantum(&self, server: &ServerUrl) -> bool {
        let mut avoided = self.classical.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.insert((server.host.clone(), server.port))
    }

    /// Undoes [`Self::avoid_post_quantum`].
    pub(super) fn offer_post_quantum(&self, server: &ServerUrl) {
        let mut avoided = self.classical.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.remove(&(server.host.clone(), server.port));
    }

    /// True when standard input ended instead of an answer about a certificate.
    pub(super) fn lacks_input(&self) -> bool {
        self.no_input.load(Ordering::Relaxed)
    }

    /// The certificates that are trusted.
    ///
    /// # Errors
    /// The text to show.
    pub(crate) fn anchors(&self) -> Result<Arc<Anchors>, String> {
        if let Some(anchors) = self.anchors.get() {
            return Ok(Arc::clone(anchors));
        }
        let mut anchors = Anchors::new();
        if !self.options.no_system_trust {
            anchors.allow_system();
        }
        if let Some(file) = &self.options.ca_file {
            let failed = |text: String| format!("Failed to open CA file '{}': {text}", file.display());
            let pem = fs::read(file).map_err(|error| failed(reason(&error)))?;
            anchors.add_pem(&pem).map_err(|error| failed(error.to_string()))?;
        }
        Ok(Arc::clone(self.anchors.get_or_init(|| Arc::new(anchors))))
    }

    fn accepts(&self, host: &str, port: u16, presented: &Presented<'_>) -> bool {
        let leaf = presented.leaf;
        if let Some(problem) = presented.verdict.reason {
            self.output
                .info(&format!("Server certificate verify failed: {problem}"));
        }
        if !self.options.pins.is_empty() {
            return match Pins::new(self.options.pins.clone()).judge(leaf) {
                Ok(judgement) => {
                    for message in &judgement.messages {
                        self.output.error(message);
                    }
                    judgement.accepted
                }
                Err(error) => {
                    self.output.error(&error.to_string());
                    false
                }
            };
        }
        let Some(problem) = presented.verdict.reason else {
            return true;
        };
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), port, leaf.to_vec());
        if accepted.contains(&key) {
            return true;
        }
        let yes = self.question(host, problem, leaf);
        if yes {
            accepted.insert(key);
        }
        yes
    }

    fn question(&self, host: &str, problem: &str, leaf: &[u8]) -> bool {
        let pin = spki_pin(leaf).unwrap_or_default();
        self.console.write(&printable(&format!(
            "\nCertificate from VPN server \"{host}\" failed verification.\nReason: {problem}\n\
             To trust this server in future, perhaps add this to your command line:\n    --servercert {pin}\n"
        )));
        if self.console.non_interactive() {
            return false;
        }
        let mut console = self.console.clone();
        loop {
            match console.ask(
                "Enter 'yes' to accept, 'no' to abort; anything else to view: ",
                false,
            ) {
                Ok(answer) if answer.expose().eq_ignore_ascii_case("yes") => return true,
                Ok(answer) if answer.expose().eq_ignore_ascii_case("no") => return false,
                Ok(_) => {
                    let text = certificate_text(leaf).unwrap_or_else(|error| error.to_string());
                    console.write(&printable(&format!("{text}\nServer key hash: {pin}\n")));
                }
                Err(error) => {
                    let ended = matches!(error, AskError::NoInput(_));
                    self.no_input.store(ended, Ordering::Relaxed);
                    return false;
                }
            }
        }
    }
}
