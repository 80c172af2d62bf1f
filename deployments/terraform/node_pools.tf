locals {
  # What machines each accelerator is on; written from what `kinetic accelerators` lists.
  accelerators = jsondecode(file("${path.module}/accelerators.json"))

  unknown_accelerators = [for pool in var.pools : pool.accelerator if !contains(keys(local.accelerators), trimsuffix(pool.accelerator, ":spot"))]

  wanted_pools = [
    for pool in var.pools : merge(local.accelerators[trimsuffix(pool.accelerator, ":spot")], {
      accelerator = trimsuffix(pool.accelerator, ":spot")
      is_spot     = endswith(pool.accelerator, ":spot")
      reservation = pool.reservation
      zones       = pool.zones
      asked_nodes = pool.max_nodes
    })
    if contains(keys(local.accelerators), trimsuffix(pool.accelerator, ":spot"))
  ]

  # A slice is whole, or not there.
  pools = {
    for pool in local.wanted_pools :
    "${pool.accelerator}${pool.is_spot ? "-spot" : pool.reservation != null ? "-reserved" : ""}" => merge(pool, {
      is_slice = pool.hosts > 1
      most     = pool.hosts > 1 ? pool.hosts : coalesce(pool.asked_nodes, 4)
      is_total = (local.is_regional || length(pool.zones) > 1) && pool.hosts == 1
    })
    if var.mode == "standard"
  }
}

# The nodes that GKE's own pods are on, and runs without an accelerator.
resource "google_container_node_pool" "cpu" {
  count = var.mode == "standard" ? 1 : 0

  project            = var.project
  location           = var.location
  cluster            = google_container_cluster.standard[0].name
  name               = "kinetic-cpu"
  initial_node_count = 1

  autoscaling {
    min_node_count       = local.is_regional ? null : 1
    max_node_count       = local.is_regional ? null : var.max_nodes
    total_min_node_count = local.is_regional ? 1 : null
    total_max_node_count = local.is_regional ? var.max_nodes : null
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.machine_type
    disk_size_gb    = 100
    service_account = local.accounts["nodes"]
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    resource_labels = local.labels

    shielded_instance_config {
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}

# One for each accelerator, without nodes while nothing runs there. GKE adds labels and taints.
resource "google_container_node_pool" "accelerators" {
  for_each = local.pools

  project            = var.project
  location           = var.location
  cluster            = google_container_cluster.standard[0].name
  name               = each.key
  initial_node_count = 0
  node_locations     = length(each.value.zones) > 0 ? each.value.zones : null

  autoscaling {
    location_policy      = "ANY"
    min_node_count       = each.value.is_total ? null : 0
    max_node_count       = each.value.is_total ? null : each.value.most
    total_min_node_count = each.value.is_total ? 0 : null
    total_max_node_count = each.value.is_total ? each.value.most : null
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  dynamic "placement_policy" {
    for_each = each.value.is_slice ? [each.value.topology] : []

    content {
      type         = "COMPACT"
      tpu_topology = placement_policy.value
    }
  }

  # A node more while nodes are upgraded would need more of the accelerator's quota.
  dynamic "upgrade_settings" {
    for_each = each.value.is_slice ? [] : [1]

    content {
      max_surge       = 0
      max_unavailable = 1
    }
  }

  node_config {
    machine_type    = each.value.machine_type
    disk_size_gb    = 200
    spot            = each.value.is_spot
    service_account = local.accounts["nodes"]
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    resource_labels = local.labels

    dynamic "guest_accelerator" {
      for_each = each.value.gpu == null ? [] : [each.value.gpu]

      content {
        type  = guest_accelerator.value.type
        count = guest_accelerator.value.count

        gpu_driver_installation_config {
          gpu_driver_version = guest_accelerator.value.driver
        }
      }
    }

    dynamic "reservation_affinity" {
      for_each = each.value.reservation == null ? [] : [each.value.reservation]

      content {
        consume_reservation_type = "SPECIFIC_RESERVATION"
        key                      = "compute.googleapis.com/reservation-name"
        values                   = [reservation_affinity.value]
      }
    }

    shielded_instance_config {
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}
