defmodule Image.ZeroShot.Native.Loader do
  @moduledoc false

  # Brings the two native libraries into the VM, or says why not and what to do about it.

  alias Image.ZeroShot.Native

  # Threads of OpenMP that wait for work spin, and lose a factor of three once the VM is busy with
  # anything else. With a short spin that is gone, and a quiet VM is as fast as before.
  @spin_count "2000"

  @spec load!(Path.t()) :: :ok
  def load!(directory) do
    load!(Native.Env, Path.join(directory, "clip_env"))
    {:ok, _set_or_kept} = Native.Env.put_default("GOMP_SPINCOUNT", @spin_count)
    load!(Native, Path.join(directory, "clip_nif"))
  end

  @spec load!(module(), Path.t()) :: :ok
  def load!(module, path) do
    case module.load(String.to_charlist(path)) do
      :ok -> :ok
      # The application was stopped and is started again.
      {:error, {:reload, _text}} -> :ok
      {:error, {reason, text}} -> raise message(path <> ".so", reason, to_string(text))
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
