defmodule Image.ZeroShot.Native.Loader do
  @moduledoc false

  # Loads the native libraries into the VM, or says why that fails and what to do.

  alias Image.ZeroShot.{Error, Native}

  # OpenMP threads spin while they wait for work, which makes them three times as slow once the VM is
  # busy with anything else. A short spin costs less, and the threads rest where cores are busy (`team.rs`).
  @spin_count "5000"

  @doc """
  Loads what needs no libtorch, when the application starts.
  """
  @spec base!() :: :ok
  def base! do
    load!(Native, priv("nif"))

    # libgomp reads it when it is loaded, with libtorch. Already here, because the environment of C
    # must not be changed while other threads may read it.
    {:ok, _set_or_kept} = Native.put_default("GOMP_SPINCOUNT", @spin_count)
    :ok
  end

  @doc """
  Loads libtorch unless it is loaded. It takes 100 MB, so a system without a model never loads it.

  The VM lets one process at a time load a library, so of many callers only the first does the work.
  It blocks one scheduler for 0.2 s, once. A dirty scheduler would avoid that, but a VM that halts waits
  only for its normal schedulers, and crashes while libtorch is being opened on another thread.
  """
  @spec torch() :: :ok | {:error, Error.t()}
  def torch, do: if(Native.Torch.loaded?(), do: :ok, else: load_torch())

  defp load_torch do
    with {:error, message} <- load(Native.Torch, priv("nif_torch")),
         do: Error.error(:libtorch, message)
  end

  defp priv(library), do: Application.app_dir(:image_zero_shot, Path.join("priv", library))

  @spec load!(module(), Path.t()) :: :ok
  def load!(module, path) do
    with {:error, message} <- load(module, path), do: raise(message)
  end

  defp load(module, path) do
    case module.load(String.to_charlist(path)) do
      :ok -> :ok
      # By another process, or by the application before it was stopped and started again.
      {:error, {:reload, _text}} -> :ok
      {:error, {reason, text}} -> {:error, message(path <> ".so", reason, to_string(text))}
    end
  end

  @spec message(Path.t(), atom(), String.t()) :: String.t()
  def message(file, reason, text) do
    """
    Image.ZeroShot cannot load its native library #{file}

        #{text}

    #{way_out(file, reason, text)}
    """
  end

  defp way_out(_file, :upgrade, _text) do
    "A native library cannot be exchanged in a running system: restart it."
  end

  defp way_out(_file, reason, _text) when reason in [:bad_lib, :old_code] do
    "The library and the Elixir code belong to different versions. #{rebuild()}"
  end

  defp way_out(file, _reason, text) do
    cond do
      text =~ "static TLS" ->
        "Too many libraries want room that glibc sets aside when a program starts. " <>
          "Start with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384 in the environment."

      text =~ ~r/GLIBC(XX)?_/ ->
        "It was built on a newer system than this one. Build on the system that it runs on, " <>
          "or on an older one."

      text =~ ~r/lib(torch|c10|gomp|cudart|cupti)/ ->
        "libtorch is looked for in #{Path.join(Path.dirname(file), "libtorch")}. A release has " <>
          "to be copied with that folder; elsewhere, build again. #{rebuild()}"

      true ->
        rebuild()
    end
  end

  defp rebuild do
    "`mix compile --force` builds it, or `mix deps.compile image_zero_shot --force` where " <>
      "image_zero_shot is a dependency."
  end
end
