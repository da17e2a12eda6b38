"""The attacks of an evaluation where nobody says which."""

from collections.abc import Mapping

from demur.evaluation.attacks import adaptive, carlini_wagner, foolbox_attacks
from demur.evaluation.attacks.base import Attack
from demur.evaluation.norms import Norm


def default_attacks(epsilons: Mapping[Norm, float], bounds: tuple[float, float]) -> list[Attack]:
    """The attacks of an evaluation: every kind of knowledge, with several budgets where a curve needs them."""
    linf, l2, l1 = (epsilons[norm] for norm in ("Linf", "L2", "L1"))
    everything = 0.5 * (bounds[1] - bounds[0])
    grown = sorted({epsilon for epsilon in (linf / 4, linf / 2, 2 * linf) if epsilon < everything} | {linf, everything})
    attacks = [
        foolbox_attacks.FGSM(linf),
        *(foolbox_attacks.PGD(epsilon) for epsilon in grown),
        foolbox_attacks.PGDL2(l2),
        foolbox_attacks.SLIDE(l1),
        foolbox_attacks.DeepFool(),
        carlini_wagner.CarliniWagner(),
        carlini_wagner.ConfidentCarliniWagner(),
        foolbox_attacks.HopSkipJump(),
        *(adaptive.WeightedPGD(epsilon) for epsilon in (linf / 2, linf, 2 * linf)),
        adaptive.SelectivePGD(linf),
        adaptive.OrthogonalPGD(linf),
        adaptive.BothPathsPGD(linf),
        adaptive.DefendedPathPGD(linf),
        adaptive.LogitMatching(linf),
        adaptive.WeightedPGD(l2, norm="L2"),
        adaptive.WeightedPGD(l1, norm="L1"),
        foolbox_attacks.GuardedHopSkipJump(l2),
    ]
    for attack in attacks:
        attack.for_the_curve = attack.epsilon is not None and attack.epsilon != epsilons[attack.norm]
        if isinstance(attack, foolbox_attacks.PGD) and attack.epsilon == everything:
            attack.for_a_check = True  # that accuracy falls to 0 as the budget grows
    return attacks
