//! OpenFaaS's provider API: field names, optional fields and defaults are theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Body of `POST` and `PUT /system/functions`. Unknown fields are accepted, as OpenFaaS does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDeployment {
    /// Name of the function.
    pub service: String,
    /// Image to run, echoed back exactly.
    pub image: String,
    /// Namespace; none means the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Becomes the environment variable `fprocess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_process: Option<String>,
    /// Environment, only what was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Placement constraints: kept and echoed, without effect on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<String>>,
    /// Names of secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Upper limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// What is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resources>,
    /// Whether the root is read-only; ours always is, `/tmp` stays writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
}

/// Quantities in Kubernetes' notation (`128Mi`, `100m`), echoed verbatim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

/// One function in the answer of `GET /system/functions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// Name without namespace.
    pub name: String,
    /// Image as deployed.
    pub image: String,
    /// Namespace, always given.
    pub namespace: String,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_process: Option<String>,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<String>>,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// As deployed, plus `faas_function`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// As deployed.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// As deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resources>,
    /// Whether the root is read-only.
    #[serde(default)]
    pub read_only_root_filesystem: bool,
    /// Replicas wanted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replicas: u64,
    /// Replicas that answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub available_replicas: u64,
    /// Calls so far.
    #[serde(default)]
    pub invocation_count: f64,
    /// When it was created (RFC 3339).
    pub created_at: String,
}

/// Body of `DELETE /system/functions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFunctionRequest {
    /// Name of the function.
    pub function_name: String,
    /// Its namespace; none means the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Answer of `GET /system/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The provider behind the gateway.
    pub provider: ProviderInfo,
    /// The gateway's version.
    pub version: VersionInfo,
    /// Machine architecture, for example `x86_64`.
    pub arch: String,
}

/// The provider, within [`Info`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderInfo {
    /// Name of the provider: `inplace`.
    pub provider: String,
    /// What carries the containers: `containerd`.
    pub orchestration: String,
    /// The provider's version.
    pub version: VersionInfo,
}

/// A version, within [`Info`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Release name.
    pub release: String,
    /// Commit it was built from.
    pub sha: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
