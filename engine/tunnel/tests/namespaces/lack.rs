//! Kernels that lack what this one has.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// From now on the kernel refuses `call` with `error` when all these arguments compare so.
fn refuse(call: i64, arguments: &[(u8, SeccompCmpOp, u64)], error: i32) {
    let conditions = arguments.iter().map(|(index, operator, value)| {
        SeccompCondition::new(*index, SeccompCmpArgLen::Dword, operator.clone(), *value).unwrap()
    });
    let rule = SeccompRule::new(conditions.collect()).unwrap();
    let filter = SeccompFilter::new(
        [(call, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Makes this process's kernel one that lacks something.
pub(crate) fn lack(offload: &str) {
    // More octets than a datagram of the tunnel has.
    const RUN: u64 = 2000;
    let udp = u64::from(libc::TUN_F_USO4);
    match offload {
        // Linux before 6.2, and a way out that does not segment.
        "no-udp-offload" => {
            let set_offload = (1, SeccompCmpOp::Eq, libc::TUNSETOFFLOAD);
            let with_udp = (2, SeccompCmpOp::MaskedEq(udp), udp);
            refuse(libc::SYS_ioctl, &[set_offload, with_udp], libc::EINVAL);
            refuse(libc::SYS_sendto, &[(2, SeccompCmpOp::Gt, RUN)], libc::EIO);
        }
        // More parts than header and packet are several packets.
        "no-super-packets" => refuse(libc::SYS_writev, &[(2, SeccompCmpOp::Gt, 2)], libc::EINVAL),
        _ => {}
    }
}
