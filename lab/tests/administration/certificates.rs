//! `server-cert` with a chain of certificates, in the orders that people have them in.

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A root, an intermediate authority, a server certificate of it, and a stranger.
struct Chain {
    root: String,
    intermediate: String,
    leaf: String,
    stranger: String,
    key: String,
}

/// One of a [`Chain`].
#[derive(Debug, Clone, Copy)]
enum Pick {
    Root,
    Intermediate,
    Leaf,
    Stranger,
}

use Pick::{Intermediate, Leaf, Root, Stranger};

impl Chain {
    fn pick(&self, pick: Pick) -> &str {
        match pick {
            Root => &self.root,
            Intermediate => &self.intermediate,
            Leaf => &self.leaf,
            Stranger => &self.stranger,
        }
    }

    fn new() -> Self {
        let authority = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (parameters, KeyPair::generate().unwrap())
        };
        let (root, root_key) = authority("Root");
        let (intermediate, intermediate_key) = authority("Intermediate");
        let (stranger, stranger_key) = authority("Stranger");
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        let by_root = Issuer::from_params(&root, &root_key);
        let by_intermediate = Issuer::from_params(&intermediate, &intermediate_key);
        Self {
            root: root.self_signed(&root_key).unwrap().pem(),
            intermediate: intermediate.signed_by(&intermediate_key, &by_root).unwrap().pem(),
            leaf: leaf.signed_by(&key, &by_intermediate).unwrap().pem(),
            stranger: stranger.self_signed(&stranger_key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Clients that trust the root alone log in, whatever the order in the file.
fn serves_chains(make: Make, orders: &[&[Pick]]) {
    let world = World::new();
    let fixture = Fixture::new();
    let chain = Chain::new();
    fixture.write_file("ca.pem", &chain.root);
    let key = fixture
        .write_file("chain-key.pem", &chain.key)
        .display()
        .to_string();
    for order in orders {
        let file: String = order.iter().map(|pick| chain.pick(*pick)).collect();
        let certificates = fixture.write_file("chain.pem", &file).display().to_string();
        let overrides = [
            ("server-cert", certificates.as_str()),
            ("server-key", key.as_str()),
        ];
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        let server = Server::start_with(make, &world, &fixture, &options);
        let options = ClientOptions {
            arguments: &["--authenticate", "--no-system-trust", "--non-inter"],
            ..ClientOptions::default()
        };
        let login = Client::run(Make::Real, &world, &fixture, &options);
        assert_eq!(
            login.code,
            0,
            "{order:?}: {}{}\n{}",
            login.stdout,
            login.stderr,
            server.log()
        );
    }
}

/// What the real server serves, too: the own certificate first, the rest in any order.
const LEAF_FIRST: [&[Pick]; 3] = [
    &[Leaf, Intermediate],
    &[Leaf, Intermediate, Root],
    &[Leaf, Root, Intermediate],
];

#[test]
fn our_server_serves_chains_in_any_order() {
    serves_chains(Make::Culvert, &LEAF_FIRST);
    serves_chains(
        Make::Culvert,
        &[
            &[Intermediate, Leaf],
            &[Root, Intermediate, Leaf],
            &[Intermediate, Root, Leaf],
            &[Stranger, Leaf, Intermediate],
        ],
    );
}

#[test]
fn real_server_serves_chains_that_begin_with_the_leaf() {
    serves_chains(Make::Real, &LEAF_FIRST);
}
