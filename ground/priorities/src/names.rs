//! The names that GnuTLS knows.

pub(super) type Names = &'static [&'static str];

/// One category of items: the prefix of its names, what `ALL` adds, and all other names that are
/// known: allowed when added by name.
pub(super) struct Category {
    pub(super) prefix: &'static str,
    pub(super) all: Names,
    pub(super) others: Names,
}

pub(super) const TLS: Names = &["TLS1.3", "TLS1.2", "TLS1.1", "TLS1.0"];
pub(super) const DTLS: Names = &["DTLS1.2", "DTLS1.0"];
pub(super) const PROTOCOLS: Names = &["TLS1.3", "TLS1.2", "TLS1.1", "TLS1.0", "DTLS1.2", "DTLS1.0"];
pub(super) const UNAVAILABLE_PROTOCOLS: Names = &["SSL3.0", "DTLS0.9"];

pub(super) const CIPHERS: Category = Category {
    prefix: "",
    all: &[
        "AES-256-GCM",
        "CHACHA20-POLY1305",
        "AES-256-CCM",
        "AES-256-CBC",
        "AES-128-GCM",
        "AES-128-CCM",
        "AES-128-CBC",
    ],
    others: &[
        "AES-128-CCM-8",
        "AES-256-CCM-8",
        "AES-192-GCM",
        "AES-192-CBC",
        "CAMELLIA-128-GCM",
        "CAMELLIA-256-GCM",
        "CAMELLIA-128-CBC",
        "CAMELLIA-192-CBC",
        "CAMELLIA-256-CBC",
        "ARCFOUR-128",
        "3DES-CBC",
        "DES-CBC",
        "RC2-40",
        "SALSA20-256",
        "ESTREAM-SALSA20-256",
        "NULL",
    ],
};
pub(super) const MACS: Category = Category {
    prefix: "",
    all: &["SHA1", "AEAD"],
    others: &["SHA256", "SHA384", "SHA512", "SHA224", "MD5"],
};
pub(super) const KEY_EXCHANGES: Category = Category {
    prefix: "",
    all: &["ECDHE-ECDSA", "ECDHE-RSA", "RSA", "DHE-RSA"],
    others: &[
        "DHE-DSS",
        "PSK",
        "RSA-PSK",
        "DHE-PSK",
        "ECDHE-PSK",
        "SRP",
        "SRP-RSA",
        "SRP-DSS",
        "ANON-DH",
        "ANON-ECDH",
        "RSA-EXPORT",
    ],
};
pub(super) const CURVES: Names = &["SECP256R1", "SECP384R1", "SECP521R1", "X25519", "X448"];
pub(super) const GROUPS: Category = Category {
    prefix: "GROUP-",
    all: &[
        "SECP256R1",
        "SECP384R1",
        "SECP521R1",
        "X25519",
        "X448",
        "FFDHE2048",
        "FFDHE3072",
        "FFDHE4096",
        "FFDHE6144",
        "FFDHE8192",
    ],
    others: &["SECP192R1", "SECP224R1", "GC256B", "GC512A"],
};

/// Names after `SIGN-`: key type, optional curve or padding, digest.
pub(super) const SIGNATURES: Names = &[
    "ALL",
    "RSA-SHA1",
    "RSA-SHA224",
    "RSA-SHA256",
    "RSA-SHA384",
    "RSA-SHA512",
    "RSA-MD5",
    "RSA-RAW",
    "RSA-RMD160",
    "RSA-SHA3-224",
    "RSA-SHA3-256",
    "RSA-SHA3-384",
    "RSA-SHA3-512",
    "RSA-PSS-SHA256",
    "RSA-PSS-SHA384",
    "RSA-PSS-SHA512",
    "RSA-PSS-RSAE-SHA256",
    "RSA-PSS-RSAE-SHA384",
    "RSA-PSS-RSAE-SHA512",
    "DSA-SHA1",
    "DSA-SHA224",
    "DSA-SHA256",
    "DSA-SHA384",
    "DSA-SHA512",
    "ECDSA-SHA1",
    "ECDSA-SHA224",
    "ECDSA-SHA256",
    "ECDSA-SHA384",
    "ECDSA-SHA512",
    "ECDSA-SHA3-224",
    "ECDSA-SHA3-256",
    "ECDSA-SHA3-384",
    "ECDSA-SHA3-512",
    "ECDSA-SECP256R1-SHA256",
    "ECDSA-SECP384R1-SHA384",
    "ECDSA-SECP521R1-SHA512",
    "EDDSA-ED25519",
    "EDDSA-ED448",
];

/// Items of categories that have no meaning for this server.
pub(super) const WITHOUT_EFFECT: Names = &[
    "CTYPE-ALL",
    "CTYPE-X.509",
    "CTYPE-X509",
    "CTYPE-OPENPGP",
    "COMP-ALL",
    "COMP-NULL",
    "COMP-DEFLATE",
];

pub(super) const FLAGS: Names = &[
    "SERVER_PRECEDENCE",
    "COMPAT",
    "DUMBFW",
    "LATEST_RECORD_VERSION",
    "SSL3_RECORD_VERSION",
    "NO_SHUFFLE_EXTENSIONS",
    "SAFE_RENEGOTIATION",
    "UNSAFE_RENEGOTIATION",
    "PARTIAL_RENEGOTIATION",
    "DISABLE_SAFE_RENEGOTIATION",
    "NO_EXTENSIONS",
    "NO_TICKETS",
    "NO_TICKETS_TLS12",
    "NO_ETM",
    "FORCE_ETM",
    "NO_SESSION_HASH",
    "STATELESS_COMPRESSION",
    "FALLBACK_SCSV",
    "DISABLE_TLS13_COMPAT_MODE",
    "VERIFY_ALLOW_SIGN_RSA_MD5",
    "VERIFY_ALLOW_SIGN_WITH_SHA1",
    "VERIFY_ALLOW_BROKEN",
    "VERIFY_ALLOW_X509_V1_CA_CRT",
    "VERIFY_DISABLE_CRL_CHECKS",
    "ALLOW_SMALL_RECORDS",
    "DISABLE_WILDCARDS",
    "KEYWORDS",
    "PROFILE_VERY_WEAK",
    "PROFILE_LOW",
    "PROFILE_LEGACY",
    "PROFILE_MEDIUM",
    "PROFILE_HIGH",
    "PROFILE_ULTRA",
    "PROFILE_FUTURE",
    "PROFILE_SUITEB128",
    "PROFILE_SUITEB192",
];

pub(super) fn is_flag(name: &str) -> bool {
    FLAGS.iter().any(|flag| flag.eq_ignore_ascii_case(name))
}

/// Single items that this server has, without `SIGN-`; of DTLS only what hello messages of clients may ask
/// for.
const AVAILABLE: Names = &[
    "VERS-TLS1.2",
    "VERS-TLS1.3",
    "VERS-DTLS1.2",
    "VERS-DTLS0.9",
    "AES-256-GCM",
    "AES-128-GCM",
    "CHACHA20-POLY1305",
    "AES-256-CBC",
    "AES-128-CBC",
    "AEAD",
    "SHA1",
    "ECDHE-RSA",
    "ECDHE-ECDSA",
    "PSK",
    "GROUP-X25519",
    "GROUP-SECP256R1",
    "GROUP-SECP384R1",
];
/// Ends of names of signature algorithms that are never used here, so that they may be taken away.
const WEAK_SIGNATURES: Names = &[
    "-SHA1", "-MD5", "-SHA224", "-RAW", "-RMD160", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512",
];

/// True when this server has what an item adds. Wildcards add what there is.
pub(super) fn is_available(name: &str) -> bool {
    let name = name.replacen("CURVE-", "GROUP-", 1);
    // With a key of that kind the algorithm is used, else there is no need to.
    let signature = name.strip_prefix("SIGN-");
    name.ends_with("ALL")
        || AVAILABLE.contains(&name.as_str())
        || WITHOUT_EFFECT.contains(&name.as_str())
        || signature.is_some_and(|signature| !is_never_used(signature))
}

/// True for signature algorithms that this server has no use for.
pub(super) fn is_never_used(signature: &str) -> bool {
    signature.starts_with("DSA-")
        || WEAK_SIGNATURES.iter().any(|end| signature.ends_with(end))
        || signature == "EDDSA-ED448"
}
