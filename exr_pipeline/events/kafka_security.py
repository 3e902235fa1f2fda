"""How brokers are connected to, for those who read events from them and those who publish.

Belongs here: encryption and authentication as options of librdkafka. Not here: what each of the two asks of a broker
(`kafka_source`, `kafka_sink`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exr_pipeline.errors import MisconfiguredError

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings


def security_options(settings: Settings) -> dict[str, str]:
    """The options of librdkafka for encryption and authentication.

    Raises `MisconfiguredError` if the user or the password is missing.
    """
    options: dict[str, str] = {"security.protocol": settings.kafka_security}
    if settings.kafka_ca is not None:
        options["ssl.ca.location"] = str(settings.kafka_ca)
    if settings.kafka_security.startswith("sasl"):
        if settings.kafka_username is None or settings.kafka_password is None:
            raise MisconfiguredError(
                "EXR_PIPELINE_KAFKA_USERNAME",
                f"{settings.kafka_security} needs a user and a password",
                "set it and EXR_PIPELINE_KAFKA_PASSWORD",
            )
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_username
        options["sasl.password"] = settings.kafka_password.get_secret_value()
    return options
