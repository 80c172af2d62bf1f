resource "google_container_cluster" "standard" {
  count = var.mode == "standard" ? 1 : 0

  project             = var.project
  location            = var.location
  name                = var.cluster
  description         = local.description
  resource_labels     = local.labels
  deletion_protection = var.deletion_protection

  networking_mode       = "VPC_NATIVE"
  datapath_provider     = "ADVANCED_DATAPATH"
  enable_shielded_nodes = true

  # Its pools are in node_pools.tf; GKE makes no cluster without one.
  remove_default_node_pool = true
  initial_node_count       = 1

  node_config {
    service_account = local.accounts["nodes"]
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
  }

  release_channel {
    channel = "REGULAR"
  }

  ip_allocation_policy {}

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  # Runs mount Cloud Storage by it.
  addons_config {
    gcs_fuse_csi_driver_config {
      enabled = true
    }
  }

  # Idle nodes go soon: accelerators cost much.
  cluster_autoscaling {
    enabled             = false
    autoscaling_profile = "OPTIMIZE_UTILIZATION"
  }

  # The endpoint whose access is IAM's, and which is reached from any network.
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
  }

  private_cluster_config {
    enable_private_nodes = var.private_nodes
  }

  lifecycle {
    ignore_changes = [node_config, initial_node_count]

    precondition {
      condition     = length(local.unknown_accelerators) == 0
      error_message = "No accelerator is called ${join(", ", local.unknown_accelerators)}: accelerators.json has them all, such as l4 or tpu-v6e-8, each with :spot behind it for Spot VMs."
    }
  }

  depends_on = [
    google_project_service.apis,
    google_service_account.accounts,
    google_project_iam_member.roles,
    google_compute_router_nat.nat,
  ]
}

# Workload Identity, the add-on, Dataplane V2 and shielded nodes each Autopilot cluster has.
resource "google_container_cluster" "autopilot" {
  count = var.mode == "autopilot" ? 1 : 0

  project             = var.project
  location            = var.location
  name                = var.cluster
  description         = local.description
  resource_labels     = local.labels
  deletion_protection = var.deletion_protection

  enable_autopilot = true
  networking_mode  = "VPC_NATIVE"

  release_channel {
    channel = "REGULAR"
  }

  ip_allocation_policy {}

  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account = local.accounts["nodes"]
      oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    }
  }

  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
  }

  private_cluster_config {
    enable_private_nodes = var.private_nodes
  }

  lifecycle {
    precondition {
      condition     = length(var.pools) == 0
      error_message = "An Autopilot cluster has no node pools: GKE makes nodes with the accelerator that a run asks for."
    }

    precondition {
      condition     = local.is_regional
      error_message = "An Autopilot cluster is in a region: give it as location, such as us-central1."
    }
  }

  depends_on = [
    google_project_service.apis,
    google_service_account.accounts,
    google_project_iam_member.roles,
    google_compute_router_nat.nat,
  ]
}
