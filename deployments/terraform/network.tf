# How nodes without addresses of their own reach package indexes and registries.

resource "google_compute_router" "nat" {
  count = var.private_nodes && var.nat ? 1 : 0

  project     = var.project
  region      = local.region
  name        = "kn-${var.cluster}-nat"
  description = local.description
  network     = "projects/${var.project}/global/networks/default"

  depends_on = [google_project_service.apis]
}

resource "google_compute_router_nat" "nat" {
  count = var.private_nodes && var.nat ? 1 : 0

  project                            = var.project
  region                             = local.region
  name                               = "kn-${var.cluster}-nat"
  router                             = google_compute_router.nat[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
