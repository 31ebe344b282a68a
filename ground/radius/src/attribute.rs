//! Numbers of the attributes that are sent or understood, and names for the log.

/// RFC 2865 §5.1.
pub const USER_NAME: u8 = 1;
/// RFC 2865 §5.2.
pub const USER_PASSWORD: u8 = 2;
/// RFC 2865 §5.4.
pub const NAS_IP_ADDRESS: u8 = 4;
/// RFC 2865 §5.6.
pub const SERVICE_TYPE: u8 = 6;
/// RFC 2865 §5.7.
pub const FRAMED_PROTOCOL: u8 = 7;
/// RFC 2865 §5.8.
pub const FRAMED_IP_ADDRESS: u8 = 8;
/// RFC 2865 §5.9.
pub const FRAMED_IP_NETMASK: u8 = 9;
/// RFC 2865 §5.11.
pub const FILTER_ID: u8 = 11;
/// RFC 2865 §5.18.
pub const REPLY_MESSAGE: u8 = 18;
/// RFC 2865 §5.22.
pub const FRAMED_ROUTE: u8 = 22;
/// RFC 2865 §5.24.
pub const STATE: u8 = 24;
/// RFC 2865 §5.25.
pub const CLASS: u8 = 25;
/// RFC 2865 §5.26.
pub const VENDOR_SPECIFIC: u8 = 26;
/// RFC 2865 §5.27.
pub const SESSION_TIMEOUT: u8 = 27;
/// RFC 2865 §5.28.
pub const IDLE_TIMEOUT: u8 = 28;
/// RFC 2865 §5.30.
pub const CALLED_STATION_ID: u8 = 30;
/// RFC 2865 §5.31.
pub const CALLING_STATION_ID: u8 = 31;
/// RFC 2865 §5.32.
pub const NAS_IDENTIFIER: u8 = 32;
/// RFC 2865 §5.33.
pub const PROXY_STATE: u8 = 33;
/// RFC 2866 §5.1.
pub const ACCT_STATUS_TYPE: u8 = 40;
/// RFC 2866 §5.2.
pub const ACCT_DELAY_TIME: u8 = 41;
/// RFC 2866 §5.3.
pub const ACCT_INPUT_OCTETS: u8 = 42;
/// RFC 2866 §5.4.
pub const ACCT_OUTPUT_OCTETS: u8 = 43;
/// RFC 2866 §5.5.
pub const ACCT_SESSION_ID: u8 = 44;
/// RFC 2866 §5.6.
pub const ACCT_AUTHENTIC: u8 = 45;
/// RFC 2866 §5.7.
pub const ACCT_SESSION_TIME: u8 = 46;
/// RFC 2866 §5.10.
pub const ACCT_TERMINATE_CAUSE: u8 = 49;
/// RFC 2866 §5.11.
pub const ACCT_MULTI_SESSION_ID: u8 = 50;
/// RFC 2869 §5.1.
pub const ACCT_INPUT_GIGAWORDS: u8 = 52;
/// RFC 2869 §5.2.
pub const ACCT_OUTPUT_GIGAWORDS: u8 = 53;
/// RFC 2869 §5.3.
pub const EVENT_TIMESTAMP: u8 = 55;
/// RFC 2865 §5.41.
pub const NAS_PORT_TYPE: u8 = 61;
/// RFC 2869 §5.11.
pub const CONNECT_INFO: u8 = 77;
/// RFC 2869 §5.14, RFC 3579 §3.2.
pub const MESSAGE_AUTHENTICATOR: u8 = 80;
/// RFC 2869 §5.16.
pub const ACCT_INTERIM_INTERVAL: u8 = 85;
/// RFC 2869 §5.18.
pub const FRAMED_POOL: u8 = 88;
/// RFC 3162 §2.1.
pub const NAS_IPV6_ADDRESS: u8 = 95;
/// RFC 3162 §2.3.
pub const FRAMED_IPV6_PREFIX: u8 = 97;
/// RFC 3162 §2.5.
pub const FRAMED_IPV6_ROUTE: u8 = 99;
/// RFC 4818 §3.
pub const DELEGATED_IPV6_PREFIX: u8 = 123;
/// RFC 6911 §3.1.
pub const FRAMED_IPV6_ADDRESS: u8 = 168;
/// RFC 6911 §3.2.
pub const DNS_SERVER_IPV6_ADDRESS: u8 = 169;

/// Microsoft (RFC 2548).
pub const VENDOR_MICROSOFT: u32 = 311;
/// RFC 2548 §2.5.1.
pub const MS_PRIMARY_DNS_SERVER: u8 = 28;
/// RFC 2548 §2.5.2.
pub const MS_SECONDARY_DNS_SERVER: u8 = 29;

/// Roaring Penguin.
pub const VENDOR_ROARING_PENGUIN: u32 = 10055;
/// RP-Upstream-Speed-Limit, in kB per second.
pub const RP_UPSTREAM_SPEED_LIMIT: u8 = 1;
/// RP-Downstream-Speed-Limit, in kB per second.
pub const RP_DOWNSTREAM_SPEED_LIMIT: u8 = 2;

/// `Service-Type`: Framed.
pub const SERVICE_FRAMED: u32 = 2;
/// `Service-Type`: Authenticate-Only.
pub const SERVICE_AUTHENTICATE_ONLY: u32 = 8;
/// `Framed-Protocol`: PPP.
pub const PROTOCOL_PPP: u32 = 1;
/// `Acct-Authentic`: RADIUS.
pub const AUTHENTIC_RADIUS: u32 = 1;
/// `NAS-Port-Type`: Async.
pub const PORT_ASYNC: u32 = 0;
