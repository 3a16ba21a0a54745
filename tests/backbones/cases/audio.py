"""Small models of audio, and of the rest: music, speech, spectrograms, proteins."""

import torch
from case import small  # the folder is put on sys.path by the tests


@small(
    "AceStepTransformer1DModel",
    dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        in_channels=12,
        audio_acoustic_hidden_dim=4,
        sliding_window=2,
        encoder_hidden_size=16,
    ),
)
def ace_step(draw, t):
    times = torch.full((draw.batch,), t / 1000)
    return dict(
        hidden_states=draw(draw.batch, 13, 4),  # odd: padded to 7 patches of 2
        timestep=times,
        timestep_r=times,
        encoder_hidden_states=draw(draw.batch, 5, 16),
        context_latents=torch.cat([draw(draw.batch, 13, 4), torch.ones(draw.batch, 13, 4)], dim=-1),
        return_dict=False,
    )


@small(
    "StableAudioDiTModel",
    dict(
        sample_size=12,
        in_channels=4,
        num_layers=6,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=16,
        time_proj_dim=16,
        global_states_input_dim=10,
        cross_attention_input_dim=12,
    ),
    note="cross_attention_dim is the width of the keys: num_key_value_attention_heads heads of attention_head_dim",
)
def stable_audio(draw, t):
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    return dict(
        hidden_states=draw(draw.batch, 4, 12),
        timestep=torch.tensor([t / 1000]),  # 2/pi atan(sigma) of its scheduler, one for the whole batch
        encoder_hidden_states=draw(draw.batch, 5, 12),
        global_hidden_states=draw(draw.batch, 1, 10),
        rotary_embedding=get_1d_rotary_pos_embed(4, 13, use_real=True, repeat_interleave_real=False),
        return_dict=False,
    )


@small(
    "StableAudio3DiTModel",
    dict(
        io_channels=4,
        embed_dim=32,
        depth=6,
        num_heads=4,
        cond_token_dim=12,
        global_cond_dim=10,
        local_add_cond_dim=5,
        timestep_features_dim=16,
        ff_mult=2.0,
        num_memory_tokens=2,
    ),
)
def stable_audio_3(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 12),
        timestep=torch.full((draw.batch,), t / 1000),
        encoder_hidden_states=draw(draw.batch, 5, 12),
        global_hidden_states=draw(draw.batch, 10),
        encoder_attention_mask=(torch.arange(5) < 4).expand(draw.batch, 5),
        return_dict=False,
    )


@small(
    "LongCatAudioDiTTransformer",
    dict(dit_dim=32, dit_depth=6, dit_heads=4, dit_text_dim=12, latent_dim=4, ff_mult=2.0),
)
def longcat_audio(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 12, 4),
        encoder_hidden_states=draw(draw.batch, 5, 12),
        encoder_attention_mask=(torch.arange(5) < 4).expand(draw.batch, 5),
        timestep=torch.full((draw.batch,), t / 1000),
        attention_mask=torch.ones(draw.batch, 12, dtype=torch.bool),
        latent_cond=torch.zeros(draw.batch, 12, 4),
        return_dict=False,
    )


@small(
    "MiniMaxMusic3Transformer1DModel",
    dict(
        in_channels=4,
        condition_dim=10,
        num_layers=6,
        num_attention_heads=2,
        attention_head_dim=16,
        ff_inner_dim=48,
        rotary_dim=8,
        fourier_embedding_dim=16,
    ),
)
def minimax_music(draw, t):
    return dict(
        hidden_states=draw(draw.batch, 4, 12),
        timestep=torch.full((draw.batch,), 1 - t / 1000),  # its scheduler runs from 0, noise, to 1
        encoder_hidden_states=draw(draw.batch, 12, 10),
        return_dict=False,
    )


@small(
    "T5FilmDecoder",
    dict(input_dims=4, targets_length=12, d_model=32, num_layers=6, num_heads=4, d_kv=8, d_ff=64),
    note="has no return_dict: the output is a bare tensor",
)
def t5_film(draw, t):
    return dict(
        encodings_and_masks=[
            (draw(draw.batch, 5, 32), (torch.arange(5) < 4).expand(draw.batch, 5).long()),
            (draw(draw.batch, 7, 32), torch.ones(draw.batch, 7, dtype=torch.long)),
        ],
        decoder_input_tokens=draw(draw.batch, 12, 4),
        decoder_noise_time=torch.full((draw.batch,), t / 1000),
    )


@small(
    "RFD4ProteinaTransformer",
    dict(
        nlayers=6,
        token_dim=32,
        nheads=4,
        dim_cond=16,
        pair_repr_dim=12,
        latent_dim=5,
        token_type_emb_dim=8,
        cath_emb_dim=8,
        t_emb_dim=16,
        seq_sep_dim=8,
        xt_pair_dist_dim=8,
        tri_mult_c=8,
        feats_seq=("xt_bb_ca", "xt_local_latents", "token_type"),
        feats_pair_repr=("xt_bb_ca_pair_dists", "bond_mask", "molecule_idx_pair", "token_bond_path_length"),
    ),
    note="one pass of the trunk: its pipeline asks for 6 (recycle_depth), all in one call, and for 1 in the last steps",
)
def rfd4(draw, t):
    tokens = 9
    time = torch.full((draw.batch,), 1 - t / 1000)  # from 0, noise, to 1
    row = torch.arange(tokens).expand(draw.batch, tokens)
    return dict(
        bb_ca=draw(draw.batch, tokens, 3),
        local_latents=draw(draw.batch, tokens, 5),
        bb_ca_time=time,
        local_latents_time=time,
        padding_mask=row < 8,
        token_type=torch.zeros(draw.batch, tokens, dtype=torch.long),
        conditioning=dict(
            is_in_context_conditioning=row == 0,
            supports_local_latent=row < 7,
            molecule_iid=row // 5,
            token_bond_path_length=(row[:, :, None] - row[:, None]).abs(),
        ),
        recycle_depth=1,
        return_dict=False,
    )
