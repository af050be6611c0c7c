"""What people look at: one style, panels, figures, contact sheets, the report, the model card."""
