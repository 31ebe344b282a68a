//! The MTU of the tunnel: what the UDP channel carries, and what the device has.

use std::time::Instant;

use culvert_anyconnect::mtu::{PROBE_FILL, client_data_mtu};
use culvert_record::{FrameKind, PacketSealer};
use culvert_sys::rtnl::{self, LinkChange, Rtnl};
use culvert_tunnel::{Channel, FrameError};
use culvert_vocab::Mtu;

use super::running::Running;

impl Running {
    /// Takes what fits outer packets of `base_mtu` with the records of the UDP channel that has come up, and begins
    /// to look for what the path really takes (`specs/cstp-dtls.md` §16).
    pub(super) fn begin_mtu_search(&mut self, now: Instant, base_mtu: u16) {
        let granted = self.tunnel.config.mtu;
        let outer_ipv6 = self.tunnel.gateway.is_ipv6();
        let mtu = self.session.datagram_channel().map_or(granted, |channel| {
            let overhead = channel.headroom() + channel.tailroom();
            client_data_mtu(
                base_mtu,
                outer_ipv6,
                overhead,
                |len| channel.sealed_len(len),
                granted,
            )
        });
        self.apply_mtu(mtu);
        let inner_ipv6 = self.tunnel.config.ipv6.is_some();
        self.datagram.probe(now, mtu, inner_ipv6);
        if let Some((min, max)) = self.datagram.prober().map(|prober| prober.bounds())
            && min < max
        {
            let text = format!("Initiating MTU detection (min={min}, max={max})");
            self.context.output.debug(&text);
        }
    }

    /// Sends the probes that are due, and uses what has been found.
    pub(super) fn search_mtu(&mut self, now: Instant) {
        let Some(prober) = self.datagram.prober() else {
            return;
        };
        if prober.poll_timeout().is_some_and(|at| at <= now) {
            prober.handle_timeout(now);
        }
        while let Some(size) = self.datagram.prober().and_then(|prober| prober.poll_probe()) {
            let payload = vec![PROBE_FILL; size];
            let sent = self.session.send(
                now,
                Channel::Datagram,
                FrameKind::ProbeRequest,
                &payload,
                &mut self.buffers,
            );
            if sent == Err(FrameError::TooLarge)
                && let Some(prober) = self.datagram.prober()
            {
                prober.handle_too_big(now);
            }
        }
        if let Some(mtu) = self.datagram.take_mtu() {
            let before = self.tunnel.config.mtu;
            let (found, was) = (mtu.get(), before.get());
            match mtu == before {
                true => {
                    let text = format!("No change in MTU after detection (was {was})");
                    self.context.output.debug(&text);
                }
                false => {
                    let text = format!("Detected MTU of {found} bytes (was {was})");
                    self.context.output.info(&text);
                }
            }
            self.apply_mtu(mtu);
        }
    }

    /// Uses `mtu` from now on.
    fn apply_mtu(&mut self, mtu: Mtu) {
        if mtu != self.tunnel.config.mtu {
            self.tunnel.config.mtu = mtu;
            self.session.set_mtu(mtu.get());
            self.set_device_mtu();
        }
    }

    /// Gives the device the tunnel's MTU, if it exists. After `--setuid` with a script it keeps the one
    /// it has.
    pub(super) fn set_device_mtu(&mut self) {
        let Some(device) = self.setup.device().filter(|_| self.device_up) else {
            return;
        };
        let change = LinkChange {
            mtu: Some(self.tunnel.config.mtu.get().into()),
            ..LinkChange::default()
        };
        let changed = rtnl::interface_index(device).and_then(|index| Rtnl::open()?.set_link(index, change));
        if let Err(error) = changed {
            self.context
                .output
                .debug(&format!("Failed to change the MTU of {device}: {error}"));
            self.setup.renew(&self.tunnel);
        }
    }
}
