//! `resources:` of a container: LinuxKit's words in, the OCI runtime's words out.
//!
//! LinuxKit loses half of these on the way (Q6): its schema and its decoder spell them differently.

use serde::{Deserialize, Serialize};

use super::raw::DeviceType;

/// Limits of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<DeviceRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Pids>,
    #[serde(rename(serialize = "blockIO", deserialize = "blockio"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    block_io: Option<BlockIo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hugepage_limits: Vec<HugepageLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
}

/// Which devices the cgroup allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRule {
    pub(super) allow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<DeviceType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) major: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<String>,
}

/// Sets of numbers that all may be left out, under the names of the file.
macro_rules! optional {
    ($($name:ident { $($field:ident: $type:ty $(= $key:literal)?,)* })*) => {$(
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        struct $name {$(
            $(#[serde(rename = $key)])?
            #[serde(skip_serializing_if = "Option::is_none")]
            $field: Option<$type>,
        )*}
    )*};
}

optional! {
    Memory {
        limit: i64,
        reservation: i64,
        swap: i64,
        kernel: i64,
        kernel_tcp: i64 = "kernelTCP",
        swappiness: u64,
        disable_oom_killer: bool = "disableOOMKiller",
    }
    Cpu {
        shares: u64,
        quota: i64,
        period: u64,
        realtime_runtime: i64,
        realtime_period: u64,
        cpus: String,
        mems: String,
    }
    Pids { limit: i64, }
    BlockIo {
        weight: u16,
        leaf_weight: u16,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        throttle_read_iops_device: Vec<ThrottleDevice> = "throttleReadIOPSDevice",
        throttle_write_iops_device: Vec<ThrottleDevice> = "throttleWriteIOPSDevice",
    }
    WeightDevice { major: i64, minor: i64, weight: u16, leaf_weight: u16, }
    ThrottleDevice { major: i64, minor: i64, rate: u64, }
    HugepageLimit { page_size: String, limit: u64, }
    Network { class_id: u32 = "classID", priorities: Vec<Priority>, }
    Priority { name: String, priority: u32, }
}
