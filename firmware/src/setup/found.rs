//! Hubs that announce themselves in the local network (mDNS, RFC 6762 and 6763): what the installer need not type.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mdns_sd::{ServiceDaemon, ServiceEvent};

/// What announces a broker, or stands on the same machine as one: Home Assistant's own broker announces nothing.
const SERVICES: [(&str, Kind); 3] = [
    ("_secure-mqtt._tcp.local.", Kind::SecureMqtt),
    ("_mqtt._tcp.local.", Kind::Mqtt),
    ("_home-assistant._tcp.local.", Kind::HomeAssistant),
];

/// As the announcement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Mqtt,
    SecureMqtt,
    HomeAssistant,
}

/// A machine that is perhaps the hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub kind: Kind,
    /// Such as `homeassistant.local`.
    pub host: String,
    /// None where the broker's is not said.
    pub port: Option<u16>,
}

impl Found {
    /// For people.
    pub fn text(&self) -> String {
        let what = match self.kind {
            Kind::Mqtt => "an MQTT broker",
            Kind::SecureMqtt => "an MQTT broker with TLS",
            Kind::HomeAssistant => "Home Assistant",
        };
        format!("{}  {what}", self.host)
    }

    fn new(kind: Kind, host: &str, port: u16) -> Self {
        // Home Assistant announces the port of its pages.
        let port = (kind != Kind::HomeAssistant).then_some(port);
        Self { kind, host: host.trim_end_matches('.').to_string(), port }
    }
}

/// Everything that answers within `patience`; nothing where the network has no multicast.
pub fn hubs(patience: Duration) -> Vec<Found> {
    let Ok(daemon) = ServiceDaemon::new() else { return Vec::new() };
    let found = look(&daemon, patience);
    // Ends its thread; an answer to that is not waited for.
    let _ = daemon.shutdown();
    found
}

fn look(daemon: &ServiceDaemon, patience: Duration) -> Vec<Found> {
    let until = Instant::now() + patience;
    let browsed: Vec<_> =
        SERVICES.iter().filter_map(|(service, kind)| Some((*kind, daemon.browse(service).ok()?))).collect();
    // A broker says more than a Home Assistant on the same machine.
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    while Instant::now() < until {
        for (kind, events) in &browsed {
            while let Ok(event) = events.try_recv() {
                if let ServiceEvent::ServiceResolved(service) = event {
                    let new = Found::new(*kind, &service.host, service.port);
                    let kept = found.entry(new.host.clone()).or_insert_with(|| new.clone());
                    *kept = new.min(kept.clone());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mdns_sd::ServiceInfo;

    #[test]
    fn what_announces_itself_is_found_by_its_name() {
        let announcer = ServiceDaemon::new().unwrap();
        let name = format!("hub-{}", std::process::id());
        let host = format!("{name}.local.");
        let of =
            |service: &str, port| ServiceInfo::new(service, &name, &host, "", port, None).unwrap().enable_addr_auto();
        announcer.register(of("_home-assistant._tcp.local.", 8123)).unwrap();
        announcer.register(of("_mqtt._tcp.local.", 1884)).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let wanted = Found { kind: Kind::Mqtt, host: format!("{name}.local"), port: Some(1884) };
        let mut seen = Vec::new();
        while Instant::now() < until && !seen.contains(&wanted) {
            seen = hubs(Duration::from_secs(2));
        }
        let _ = announcer.shutdown();
        // A container without a network has nobody who could hear it.
        let only_loopback =
            std::fs::read_dir("/sys/class/net").is_ok_and(|mut all| all.all(|name| name.unwrap().file_name() == "lo"));
        assert!(seen.contains(&wanted) || only_loopback, "{seen:?}");
        assert!(
            seen.iter().filter(|found| found.host == wanted.host).count() <= 1,
            "a machine is named once: {seen:?}"
        );
    }

    #[test]
    fn a_page_is_no_broker() {
        let found = Found::new(Kind::HomeAssistant, "homeassistant.local.", 8123);
        assert_eq!((found.port, found.text().as_str()), (None, "homeassistant.local  Home Assistant"));
    }
}
