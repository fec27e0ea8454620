defmodule Image.ZeroShot.Serving.Lease do
  @moduledoc false

  # A place in a serving, from `Client.checkout/2` to `Client.checkin/1`, and what its holder needs:
  # the facts about the model, the time there is, and the way to the serving, here or on another node.
  #
  # The holder is the process that checked it out. If that ends, the place is free again.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Serving.{Directory, Gate}

  @enforce_keys [:info, :deadline, :decode_until, :via, :monitor]
  defstruct @enforce_keys

  @typedoc """
    * `:decode_until` - until when pixels are of use: the deadline less what the model will take
    * `:via` - the serving of this node, with whether the lease has a place of its own there; or the
      process that talks to another node, with the alias that it answers to
    * `:monitor` - of whichever process `:via` names. Its `:DOWN` ends the lease
  """
  @type t :: %__MODULE__{
          info: Serving.info(),
          deadline: Deadline.t(),
          decode_until: Deadline.t(),
          via:
            {:local, pid(), Directory.entry(), own_place? :: boolean()}
            | {:remote, pid(), reference()},
          monitor: reference()
        }

  @doc """
  What the holder gets whose serving terminated in order, which it does only when it is unloaded.
  """
  @spec unloaded() :: {:error, Error.t()}
  def unloaded,
    do: Error.error(:model_unloaded, "the model was unloaded; call again to load it anew")

  @doc """
  The gate of a serving of this node.
  """
  @spec gate(t()) :: Gate.t() | nil
  def gate(%__MODULE__{via: {:local, _server, entry, _own_place?}}), do: entry.gate
  def gate(_remote), do: nil

  @doc """
  The same lease with this much time from now.
  """
  @spec renew(t(), timeout()) :: t()
  def renew(%__MODULE__{deadline: before, decode_until: until} = lease, timeout) do
    deadline = Deadline.new(timeout)
    bounded = is_integer(before) and is_integer(deadline)
    # The model still needs what is left between the two.
    until = if bounded, do: deadline - (before - until), else: deadline
    %{lease | deadline: deadline, decode_until: until}
  end
end
