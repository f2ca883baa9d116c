"""The paper's coordination games: a layer network finetuned on the clip."""
