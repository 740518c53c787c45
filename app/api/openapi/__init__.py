"""What the OpenAPI document says beyond what the routes' signatures do."""
