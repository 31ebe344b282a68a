//! Files that OpenSSL and GnuTLS write, in every format and with every encryption that the
//! specification names (`specs/client.md` §8.2). Needs the programs `openssl` and `certtool`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use culvert_credentials::{CredentialError, KeyFile, KeyFormat, Passphrase, Pkcs12, certificates};
use rustls_pki_types::PrivateKeyDer;

const PASSPHRASE: &str = "squeamish ossifrage";

/// A folder with a key, a certificate of it and the certificate's issuer.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(key: &str) -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        files.openssl(&format!("genpkey {key} -out key.pem"));
        files.openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.p8");
        files
    }

    fn with_certificate(key: &str) -> Self {
        let files = Self::new(key);
        files.openssl("req -x509 -new -key key.pem -subj /CN=Issuer -days 9 -out ca.pem");
        files.openssl("req -new -key key.pem -subj /CN=Leaf -out leaf.csr");
        files.openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey key.pem -CAcreateserial -days 9 -out leaf.pem",
        );
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs openssl; `PASS` in the arguments stands for the passphrase.
    fn openssl(&self, arguments: &str) {
        self.openssl_with(arguments, PASSPHRASE);
    }

    fn openssl_with(&self, arguments: &str, passphrase: &str) {
        run(self.dir.path(), "openssl", arguments, passphrase);
    }

    /// The key in the clear as PKCS#8.
    fn pkcs8(&self) -> Vec<u8> {
        self.read("key.p8")
    }
}

fn run(dir: &Path, program: &str, arguments: &str, passphrase: &str) {
    let words = arguments
        .split_whitespace()
        .map(|word| word.replace("PASS", passphrase));
    let output = Command::new(program)
        .args(words)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.into())
}

/// The file opens with the passphrase to `expected`, and with no other.
fn assert_opens(file: &[u8], what: &str, format: KeyFormat, expected: &[u8]) {
    let key = KeyFile::parse(file).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(key.format(), format, "{what}");
    assert!(format!("{key:?}").contains("content: SecretBytes(..)"), "{what}");
    let opened = key
        .open(&passphrase(PASSPHRASE))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(opened.secret_der(), expected, "{what}");
    if format != KeyFormat::Plain {
        for wrong in [passphrase("wrong"), passphrase(""), Passphrase::absent()] {
            let error = key.open(&wrong).err();
            assert_eq!(error, Some(CredentialError::WrongPassphrase), "{what}");
        }
    }
}

#[test]
fn keys_in_the_clear() {
    for (key, structure) in [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "rsa"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ec"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ec"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "ec"),
        ("-algorithm ED25519", ""),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", ""),
    ] {
        let files = Files::new(key);
        let pkcs8 = files.pkcs8();
        assert_opens(&files.read("key.pem"), key, KeyFormat::Plain, &pkcs8);
        assert_opens(&pkcs8, key, KeyFormat::Plain, &pkcs8);
        if structure.is_empty() {
            continue;
        }
        let traditional = if structure == "rsa" { "-traditional" } else { "" };
        files.openssl(&format!(
            "{structure} -in key.pem {traditional} -outform DER -out old.der"
        ));
        files.openssl(&format!("{structure} -in key.pem {traditional} -out old.pem"));
        let old = files.read("old.der");
        assert_opens(&old, key, KeyFormat::Plain, &old);
        assert_opens(&files.read("old.pem"), key, KeyFormat::Plain, &old);
        let kind = KeyFile::parse(&old).unwrap().open(&Passphrase::absent()).unwrap();
        match structure {
            "rsa" => assert!(matches!(*kind, PrivateKeyDer::Pkcs1(_))),
            _ => assert!(matches!(*kind, PrivateKeyDer::Sec1(_))),
        }
    }
}

#[test]
fn encrypted_pem() {
    for (key, program, traditional) in [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            "rsa",
            "-traditional",
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ec", ""),
    ] {
        let files = Files::new(key);
        files.openssl(&format!(
            "{program} -in key.pem {traditional} -outform DER -out old.der"
        ));
        let old = files.read("old.der");
        for cipher in [
            "aes128",
            "aes192",
            "aes256",
            "des3",
            "des -provider legacy -provider default",
        ] {
            files.openssl(&format!(
                "{program} -in key.pem {traditional} -{cipher} -passout pass:PASS -out locked.pem"
            ));
            let what = format!("{program} {cipher}");
            assert_opens(&files.read("locked.pem"), &what, KeyFormat::EncryptedPem, &old);
        }
        files.openssl(&format!(
            "{program} -in key.pem {traditional} -camellia128 -passout pass:PASS -out locked.pem"
        ));
        assert!(matches!(
            KeyFile::parse(&files.read("locked.pem")),
            Err(CredentialError::Unsupported(_))
        ));
    }
}

const OLD: &str = "-provider legacy -provider default";

#[test]
fn encrypted_pkcs8() {
    let files = Files::new("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let expected = files.pkcs8();
    let schemes = [
        format!("-v1 PBE-MD5-DES {OLD}"),
        format!("-v1 PBE-MD5-RC2-64 {OLD}"),
        format!("-v1 PBE-SHA1-DES {OLD}"),
        format!("-v1 PBE-SHA1-RC2-64 {OLD}"),
        format!("-v1 PBE-SHA1-RC2-40 {OLD}"),
        format!("-v1 PBE-SHA1-RC2-128 {OLD}"),
        "-v1 PBE-SHA1-3DES".to_owned(),
        "-v1 PBE-SHA1-2DES".to_owned(),
        "-v2 des3".to_owned(),
        format!("-v2 des {OLD}"),
        format!("-v2 rc2-40-cbc {OLD}"),
        format!("-v2 rc2-64-cbc {OLD}"),
        format!("-v2 rc2-cbc {OLD}"),
        "-v2 aes-128-cbc -v2prf hmacWithSHA1".to_owned(),
        "-v2 aes-192-cbc -v2prf hmacWithSHA256".to_owned(),
        "-v2 aes-256-cbc -v2prf hmacWithSHA384".to_owned(),
        "-v2 aes-256-cbc -v2prf hmacWithSHA512 -iter 5000".to_owned(),
        "-scrypt".to_owned(),
    ];
    for scheme in schemes {
        for (form, format) in [
            ("PEM", KeyFormat::EncryptedPkcs8Pem),
            ("DER", KeyFormat::EncryptedPkcs8Der),
        ] {
            files.openssl(&format!(
                "pkcs8 -topk8 {scheme} -in key.pem -outform {form} -passout pass:PASS -out locked"
            ));
            let what = format!("{scheme} {form}");
            assert_opens(&files.read("locked"), &what, format, &expected);
        }
    }
}

#[test]
fn gnutls_pkcs8() {
    let files = Files::new("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    for cipher in ["3des", "3des-pkcs12", "aes-128", "aes-192", "aes-256", "rc2-40"] {
        let arguments = format!(
            "--to-p8 --load-privkey key.pem --pkcs-cipher {cipher} --password PASS --outfile locked.pem"
        );
        run(files.dir.path(), "certtool", &arguments, PASSPHRASE);
        let key = KeyFile::parse(&files.read("locked.pem")).unwrap();
        assert_eq!(key.format(), KeyFormat::EncryptedPkcs8Pem, "{cipher}");
        assert!(key.open(&passphrase(PASSPHRASE)).is_ok(), "{cipher}");
    }
}

/// A passphrase may have been typed in another encoding when the file was made.
#[test]
fn passphrases_beyond_ascii() {
    let files = Files::new("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let latin1_bytes = [b'p', 0xe9];
    let latin2_bytes = [0xf5, b'x'];
    for (octets, typed) in [
        ("pé".as_bytes(), passphrase("pé")),
        (&latin1_bytes, passphrase("pé")),
        (
            &latin2_bytes,
            passphrase("őx").with_local(latin2_bytes.to_vec().into()),
        ),
    ] {
        fs::write(files.path("pass"), octets).unwrap();
        for make in [
            "ec -in key.pem -aes128 -passout file:pass -out locked",
            "pkcs8 -topk8 -in key.pem -passout file:pass -out locked",
        ] {
            files.openssl(make);
            let key = KeyFile::parse(&files.read("locked")).unwrap();
            assert!(key.open(&typed).is_ok(), "{octets:?} {make}");
            assert!(key.open(&passphrase("pe")).is_err(), "{octets:?} {make}");
        }
    }
    let files = Files::with_certificate("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    for text in ["pé", "ĂőЖ", "日本", "😀"] {
        files.openssl_with(
            "pkcs12 -export -inkey key.pem -in leaf.pem -passout pass:PASS -out bundle.p12",
            text,
        );
        let bundle = Pkcs12::parse(&files.read("bundle.p12")).unwrap().unwrap();
        assert_eq!(bundle.open(&passphrase(text)).unwrap().keys.len(), 1, "{text}");
    }
}

#[test]
fn pkcs12_mixes() {
    let files = Files::with_certificate("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let key = files.pkcs8();
    let issuer = certificates(&files.read("ca.pem")).unwrap();
    let leaf = certificates(&files.read("leaf.pem")).unwrap();
    let mixes = [
        String::new(),
        "-legacy".to_owned(),
        "-macalg sha256 -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES".to_owned(),
        "-macalg sha1 -keypbe AES-256-CBC -certpbe AES-256-CBC".to_owned(),
        "-macalg sha512 -keypbe AES-128-CBC -certpbe AES-192-CBC".to_owned(),
        "-macalg md5 -keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-3DES".to_owned(),
        "-macalg sha384 -certpbe NONE".to_owned(),
        "-keypbe NONE -certpbe NONE".to_owned(),
        "-nomac".to_owned(),
        "-noiter -nomaciter".to_owned(),
        format!("-macalg sha224 -keypbe PBE-MD5-DES -certpbe PBE-MD5-DES {OLD}"),
        format!("-keypbe PBE-MD5-DES -certpbe AES-256-CBC {OLD}"),
        format!("-keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-40 {OLD}"),
    ];
    for mix in mixes {
        files.openssl(&format!(
            "pkcs12 -export {mix} -inkey key.pem -in leaf.pem -certfile ca.pem -passout pass:PASS -out bundle.p12"
        ));
        let bundle = Pkcs12::parse(&files.read("bundle.p12")).unwrap().expect(&mix);
        let contents = bundle.open(&passphrase(PASSPHRASE)).expect(&mix);
        assert_eq!(contents.keys.len(), 1, "{mix}");
        assert_eq!(contents.keys[0].secret_pkcs8_der(), key, "{mix}");
        for certificate in issuer.iter().chain(&leaf) {
            assert!(contents.certificates.contains(certificate), "{mix}");
        }
        let error = bundle.open(&passphrase("wrong")).err();
        assert_eq!(error, Some(CredentialError::WrongPassphrase), "{mix}");
    }
}

/// No passphrase and the empty passphrase are different things.
#[test]
fn pkcs12_without_passphrase() {
    let files = Files::with_certificate("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    files.openssl("pkcs12 -export -inkey key.pem -in leaf.pem -passout pass: -out empty.p12");
    let arguments = "--to-p12 --outder --load-privkey key.pem --load-certificate leaf.pem --p12-name x --null-password --outfile null.p12";
    run(files.dir.path(), "certtool", arguments, "");
    let opens = |name: &str, passphrase: &Passphrase| {
        let bundle = Pkcs12::parse(&files.read(name)).unwrap().unwrap();
        bundle.open(passphrase).is_ok()
    };
    assert!(opens("empty.p12", &passphrase("")) && !opens("empty.p12", &Passphrase::absent()));
    assert!(opens("null.p12", &Passphrase::absent()) && !opens("null.p12", &passphrase("")));
}

#[test]
fn gnutls_pkcs12() {
    let files = Files::with_certificate("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    for options in [
        "--pkcs-cipher 3des-pkcs12",
        "--pkcs-cipher rc2-40",
        "--pkcs-cipher aes-128",
        "--hash sha256",
    ] {
        let arguments = format!(
            "--to-p12 --outder {options} --load-privkey key.pem --load-certificate leaf.pem \
             --load-ca-certificate ca.pem --p12-name x --password PASS --outfile bundle.p12"
        );
        run(files.dir.path(), "certtool", &arguments, PASSPHRASE);
        let bundle = Pkcs12::parse(&files.read("bundle.p12")).unwrap().unwrap();
        let contents = bundle.open(&passphrase(PASSPHRASE)).expect(options);
        assert_eq!(
            (contents.keys.len(), contents.certificates.len()),
            (1, 2),
            "{options}"
        );
    }
}

#[test]
fn what_is_no_key_and_no_container() {
    let files = Files::with_certificate("-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let certificate = files.read("leaf.pem");
    assert_eq!(KeyFile::parse(&certificate).err(), Some(CredentialError::NoKey));
    let der = certificates(&certificate).unwrap().remove(0);
    assert_eq!(KeyFile::parse(&der).err(), Some(CredentialError::NoKey));
    assert_eq!(certificates(&der).unwrap(), std::slice::from_ref(&der));
    for file in [
        &certificate,
        &files.read("key.pem"),
        &files.pkcs8(),
        &b"text".to_vec(),
        &Vec::new(),
    ] {
        assert!(Pkcs12::parse(file).unwrap().is_none());
    }
    assert_eq!(
        certificates(&files.read("key.pem")).err(),
        Some(CredentialError::NoCertificate)
    );
    files.openssl("pkcs12 -export -inkey key.pem -in leaf.pem -passout pass:PASS -out bundle.p12");
    assert_eq!(
        KeyFile::parse(&files.read("bundle.p12")).err(),
        Some(CredentialError::NoKey)
    );
}
